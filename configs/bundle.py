"""The bundle: a folder that describes itself, the only thing that crosses from export to runtime.

``manifest.json`` names every graph with its hash and its inputs and outputs, the model with
every constant the orchestration needs, the checkpoint's hash, and the proof report. Loading
checks schema, presence and hashes before any graph is opened; writing is atomic.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from .checks import shown
from .errors import BundleError, InputError
from .formats.graph_file import LARGEST_GRAPH, GraphError, check_graph
from .formats.manifest import MANIFEST, REMEDY, manifest_of, manifest_text, read_manifest
from .graphs import GraphSpec, TensorSpec, engine_specs, graph_specs
from .models import ModelConfig
from .remedies import line_of, remedy_of
from .staging import replaced_folder

#: int8: the image encoder's weight matrices alone, for CPUs; the rest is float32
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Half = Literal["fp16", "bf16"]
HALF_PRECISIONS: tuple[Half, ...] = get_args(Half)
#: of bundles that may hold variants for CPUs with bfloat16 units
CPU_PRECISIONS: tuple[Precision, ...] = ("bf16", "int8")
#: a temporary folder of a build that was killed, and where its content would be
_LEFT_BY_BUILDS = re.compile(r"engines/\.([^/]+)\.\w{8}\.(?:part|old)(?:/\1(?=/|$))?")
#: files that may lie in a bundle's folder beside those its manifest lists
_OURS = re.compile(
    r"manifest\.json|weights\.bin|proof\.npz|[^/]*\.onnx|engines/[^/]+/[^/]+\.(engine|json|cubin)"
)


@dataclass(frozen=True)
class BundleFile:
    """A file of the bundle: POSIX path relative to its folder, sha256, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class GraphEntry:
    """One graph: its ONNX file, the external weight files beside it, its contract."""

    spec: GraphSpec
    file: BundleFile
    external: tuple[BundleFile, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; plain data, nothing is open. Make one with :meth:`load`."""

    path: Path
    model: ModelConfig
    precision: Precision
    opset: int
    checkpoint_sha256: str
    generator: str
    graphs: Mapping[str, GraphEntry]
    proof: Mapping[str, Any]
    #: files that a later proof needs (inputs' seeds, recorded outputs), by name
    proof_files: Mapping[str, BundleFile]

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, check_hashes: bool = True) -> Bundle:
        """Read and check the bundle in folder `path`, or of ``USER/REPO[@REVISION]`` on the hub.

        Text of that form is looked for on the Hugging Face hub where nothing of the name lies
        here (CheckpointError when it cannot be fetched); a Path always means a folder.

        Raises BundleError (one line: expected, found, remedy) when the folder or manifest is
        missing, edited or of another schema, when a file is absent, truncated or changed, when a
        path leaves the folder, when a graph holds operators that no export writes or has weights
        in files that the manifest does not list; InputError when `path` is no path. A file may be
        a link out of the folder, as caches and mounted volumes keep them; its hash is then checked
        whatever `check_hashes` says. The bundle stays usable when the working folder changes.
        """
        # an empty path would be the working folder; no name of the system's holds a NUL
        if not isinstance(path, (str, os.PathLike)) or not str(path) or "\0" in str(path):
            raise InputError(f"path is {shown(path)}: expected the folder of a bundle")
        if is_hub_name(path):
            return _of_hub(str(path))
        root = Path(path)
        bundle = cls.of_manifest(root, read_manifest(root))
        for entry in bundle.files():
            _check_file(root, entry, check_hashes)
        for graph in bundle.graphs.values():
            check_graph_file(root, graph)
        # graphs are opened later, perhaps from another working folder
        return dataclasses.replace(bundle, path=Path(os.path.abspath(root)))

    @classmethod
    def of_manifest(cls, path: Path, content: bytes) -> Bundle:
        """The bundle that a manifest describes; no file of it is looked at. Raises BundleError."""
        return _from_manifest(path, manifest_of(path / MANIFEST, content))

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of what decides results: the model's constants, graphs and weights.

        Engines, which one machine builds from them, and the proof do not count.
        """
        parts = {
            "model": dataclasses.asdict(self.model),
            "graphs": {
                name: [file.sha256 for file in (entry.file, *entry.external)]
                for name, entry in sorted(self.graphs.items())
            },
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def graph_path(self, name: str) -> Path:
        """Path of a graph's ONNX file; BundleError when the bundle has no such graph."""
        try:
            return self.path / self.graphs[name].file.path
        except KeyError:
            have = ", ".join(self.graphs)
            raise BundleError(
                f"bundle {self.path} has no graph '{name}' (it has {have}): {REMEDY}"
            ) from None

    def files(self) -> Iterator[BundleFile]:
        """Every file of the bundle once; graphs may share a file of weights."""
        graphs = self.graphs.values()
        entries = [g.file for g in graphs], *(g.external for g in graphs), self.proof_files.values()
        yield from dict.fromkeys(itertools.chain.from_iterable(entries))


#: the form of a name on the hub
_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?", re.A)


def is_hub_name(path: Any) -> bool:
    """Whether it is text of the form ``USER/REPO[@REVISION]``, and no path of this machine."""
    if not isinstance(path, str) or not _HUB_NAME.fullmatch(path):
        return False
    return not (os.path.lexists(path) or os.path.lexists(path.partition("/")[0]))


def bundle_on_hub(name: str) -> Bundle | None:
    """The bundle in a repository of the hub; None when the repository holds no manifest."""
    # fetching is the exporter's work, which nothing here knows: the front door does
    front_door = importlib.import_module(__name__.split(".configs.")[0])
    bundle: Bundle | None = front_door.download_bundle(name)
    return bundle


def bundle_file(root: Path, relative: str) -> BundleFile:
    """Describe an existing file of the bundle folder `root`."""
    path = root / relative
    return BundleFile(relative, file_sha256(path), path.stat().st_size)


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def staged_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` when the block ends without an error.

    Files are flushed to disk before the rename, so a killed export leaves the old bundle or
    none. The temporary folder lies beside the target (a rename cannot cross file systems).
    Raises BundleError, see :func:`check_bundle_target`, and InputError when something that is no
    part of a bundle has come meanwhile: the new bundle then lies beside the target.
    """
    check_bundle_target(target)
    with replaced_folder(Path(os.path.realpath(target)), foreign_to_bundle) as work:
        yield work


def check_bundle_target(target: str | os.PathLike[str]) -> None:
    """Refuse, with BundleError, a file, and a folder that holds anything but a bundle."""
    final = Path(os.path.realpath(target))
    if final.exists() and not final.is_dir():
        raise BundleError(f"{final} is a file: name a folder for the bundle")
    names = sorted(entry.name for entry in final.iterdir()) if final.is_dir() else []
    if names and not (final / MANIFEST).is_file():
        raise BundleError(
            f"folder {final} is not empty and holds no {MANIFEST}: name another folder"
        )
    if foreign := foreign_to_bundle(final):
        raise BundleError(
            f"folder {final} holds {foreign}, which is no part of a bundle: move it, or name "
            "another folder"
        )


def foreign_to_bundle(folder: Path) -> str | None:
    """Something in the folder, relative to it, that no export or build of ours wrote there."""
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    if not paths:
        return None
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return paths[0].relative_to(folder).as_posix()
    # of a damaged manifest, what can be read
    text = manifest.read_text(encoding="utf-8", errors="replace")
    if '"schema"' not in text:
        return MANIFEST
    listed = set(re.findall(r'"path":\s*"([^"]+)"', text))
    folders = {parent.as_posix() for name in listed for parent in PurePosixPath(name).parents}
    for path in paths:
        # what a killed build left is as much ours as what it built
        name = _LEFT_BY_BUILDS.sub(r"engines/\1", path.relative_to(folder).as_posix())
        if path.is_dir() and not path.is_symlink():
            known = name in folders or re.fullmatch(r"engines(/[^/]+)?", name)
        else:
            known = name in listed or _OURS.fullmatch(name)
        if not known:
            return path.relative_to(folder).as_posix()
    return None


def write_manifest(bundle: Bundle) -> None:
    """Write ``manifest.json`` into the bundle's folder.

    Raises BundleError for a value that no reader would take.
    """
    (bundle.path / MANIFEST).write_text(manifest_text(_to_manifest(bundle)), encoding="utf-8")


def _to_manifest(bundle: Bundle) -> dict[str, Any]:
    def tensors(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
        return [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in specs]

    return {
        "generator": bundle.generator,
        "model": dataclasses.asdict(bundle.model),
        "checkpoint_sha256": bundle.checkpoint_sha256,
        "precision": bundle.precision,
        "opset": bundle.opset,
        "graphs": {
            name: {
                **dataclasses.asdict(entry.file),
                "external": [dataclasses.asdict(f) for f in entry.external],
                "inputs": tensors(entry.spec.inputs),
                "outputs": tensors(entry.spec.outputs),
            }
            for name, entry in bundle.graphs.items()
        },
        "proof": dict(bundle.proof),
        "proof_files": {k: dataclasses.asdict(f) for k, f in bundle.proof_files.items()},
    }


def _from_manifest(root: Path, data: dict[str, Any]) -> Bundle:
    """The bundle of a manifest as :func:`read_manifest` gives it."""
    try:
        model = _model(data["model"])
    except InputError as error:
        raise BundleError(f"{root / MANIFEST} was edited ({error}): {REMEDY}") from None
    bundle = Bundle(
        path=root,
        model=model,
        precision=data["precision"],
        opset=data["opset"],
        checkpoint_sha256=data["checkpoint_sha256"],
        generator=data["generator"],
        graphs={name: _graph(name, entry) for name, entry in data["graphs"].items()},
        proof=data["proof"],
        proof_files={name: _file(entry) for name, entry in data["proof_files"].items()},
    )
    _check_contracts(bundle)
    return bundle


def _check_contracts(bundle: Bundle) -> None:
    contracts = graph_specs(bundle.model)
    # frames can be tracked without the fused graph
    missing = [name for name in engine_specs(bundle.model) if name not in bundle.graphs]
    if missing:
        raise BundleError(
            f"{bundle.path / MANIFEST} lacks the graphs {', '.join(missing)}: {REMEDY}"
        )
    present = contracts.keys() & bundle.graphs.keys()
    other = [n for n in contracts if n in present and bundle.graphs[n].spec != contracts[n]]
    if other:
        raise BundleError(
            f"{bundle.path / MANIFEST}: inputs or outputs of {', '.join(other)} are not what "
            f"this version expects of model {bundle.model.name}: {REMEDY}"
        )


def _of_hub(name: str) -> Bundle:
    if (bundle := bundle_on_hub(name)) is None:
        raise BundleError(
            f"expected a bundle at {name}, found neither a folder of that name nor a {MANIFEST} in "
            f"that repository of the hub: {REMEDY}"
        )
    return bundle


def _model(data: dict[str, Any]) -> ModelConfig:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return ModelConfig(**fields)


def _file(data: Mapping[str, Any]) -> BundleFile:
    return BundleFile(data["path"], data["sha256"], data["size"])


def _graph(name: str, data: Mapping[str, Any]) -> GraphEntry:
    def tensors(items: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(t["name"], t["dtype"], tuple(t["shape"])) for t in items)

    spec = GraphSpec(name, tensors(data["inputs"]), tensors(data["outputs"]))
    return GraphEntry(spec, _file(data), tuple(_file(f) for f in data["external"]))


def check_graph_file(root: Path, graph: GraphEntry) -> None:
    """Refuse, with BundleError, a graph's file that no exporter of ours wrote."""
    path, home = root / graph.file.path, PurePosixPath(graph.file.path).parent.as_posix()
    # in a graph, files of weights are named from its own folder
    start = "" if home == "." else f"{home}/"
    weights = {
        file.path.removeprefix(start): file.size
        for file in graph.external
        if file.path.startswith(start)
    }
    try:
        # another ending could mean another format to a backend
        if path.suffix != ".onnx" or graph.file.size > LARGEST_GRAPH:
            raise GraphError(f"expected a file .onnx of at most {LARGEST_GRAPH} bytes")
        check_graph(path.read_bytes(), weights)
    except GraphError as error:
        raise BundleError(f"{path} is no graph of a bundle ({error}): {REMEDY}") from None
    except OSError as error:
        raise BundleError(f"cannot read {path} ({error.strerror}): {REMEDY}") from None


def _check_file(root: Path, entry: BundleFile, check_hash: bool) -> None:
    path = root / entry.path
    if not path.is_file():
        raise BundleError(f"{path} is missing: {REMEDY}")
    # caches and mounted volumes keep the files elsewhere, behind links: what such a link leads to
    # may be anything, so it is not trusted without its hash
    check_hash = check_hash or not path.resolve().is_relative_to(root.resolve())
    size = path.stat().st_size
    if size != entry.size:
        raise BundleError(
            f"{path} has {size} bytes, the manifest says {entry.size} (truncated?): {REMEDY}"
        )
    try:
        found = file_sha256(path) if check_hash else entry.sha256
    except OSError as error:
        remedy = remedy_of(error, REMEDY)
        raise BundleError(f"cannot read {path} ({line_of(error)}): {remedy}") from None
    if found != entry.sha256:
        raise BundleError(
            f"{path} has sha256 {found[:12]}..., the manifest says {entry.sha256[:12]}...: {REMEDY}"
        )
