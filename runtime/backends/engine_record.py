"""What an engine says about itself, compared with this machine before anything native runs.

TensorRT has no preflight: a foreign, truncated or altered engine gives a null object or a
crash. So every engine has a JSON file beside it that records all that decides whether it may
be loaded, and :func:`check_engine` reads nothing but files to decide.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle, file_sha256
from ...configs.errors import BundleError, SessionError
from ...configs.formats.manifest import digest_of
from ...configs.formats.schema import SchemaError, check_schema, described, schema_named
from ...configs.formats.strict_json import strict_json
from ...configs.graphs import engine_specs
from ...configs.remedies import line_of, machine_failed, remedy_of
from ...plugins.registry import digests

SCHEMA = 1
ENGINES = "engines"
_SCHEMA_FILE = "engine_record_schema.json"
_LARGEST = 1 << 20
_BUILD = "build it here: sam2rt build"

#: minimum, optimum and maximum shape of each input
Ranges = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class EngineTarget:
    """What an engine must fit: TensorRT's version, and the GPU with its driver."""

    tensorrt: str
    arch: int
    gpu: str
    #: CUDA version the driver supports
    driver: tuple[int, int]

    @property
    def folder(self) -> str:
        """Name of this machine's folder in a bundle, by compute capability and TensorRT."""
        return f"sm{self.arch}-trt{self.tensorrt}"


@dataclass(frozen=True)
class EngineRecord:
    """What is recorded of one engine, in a JSON file beside it.

    source: which variant of the graph was built; onnx: sha256 of it and its weight files.
    attention: how memory attention was built.
    splits: pieces its keys are cut into. device_memory: bytes one execution context takes.
    kernels: sha256 of every custom kernel inside, by name. proof: what the build measured.
    """

    graph: str
    source: str
    size: int
    sha256: str
    onnx: str
    tensorrt: str
    arch: int
    gpu: str
    driver: tuple[int, int]
    precision: str
    attention: str
    hardware_compatible: bool
    version_compatible: bool
    device_memory: int
    profiles: tuple[Ranges, ...]
    kernels: Mapping[str, str] = field(default_factory=dict)
    splits: int = 1
    proof: Mapping[str, Any] = field(default_factory=dict)


def engine_path(bundle: Bundle, folder: str, graph: str) -> Path:
    return bundle.path / ENGINES / folder / f"{graph}.engine"


def engine_folder(bundle: Bundle, target: EngineTarget, named: str | None = None) -> str:
    """The folder of a bundle whose engines `target` runs.

    The one that is `named`, else the machine's own, else the newest of those that were built to
    run with later TensorRT too and fit. BundleError says what there is instead.
    """
    wanted, root = named or target.folder, bundle.path / ENGINES
    if (root / wanted).is_dir():
        return wanted
    have = sorted(p.name for p in root.glob("*") if p.is_dir())
    for folder in sorted(have, key=_numbers, reverse=True):
        if named is None and _portable(bundle, folder, target):
            return folder
    raise BundleError(
        f"expected engines for {wanted} in {bundle.path}, found "
        f"{', '.join(have) or 'none'}: build them with 'sam2rt build {bundle.path}'"
    )


def _numbers(folder: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", folder)]


def _portable(bundle: Bundle, folder: str, target: EngineTarget) -> bool:
    try:
        records = {
            g: read_record(engine_path(bundle, folder, g)) for g in engine_specs(bundle.model)
        }
    except BundleError:
        return False
    return all(
        r.version_compatible and not list(_incompatibilities(r, bundle, g, target))
        for g, r in records.items()
    )


def onnx_digest(bundle: Bundle, graph: str) -> str:
    """One hash over a graph's ONNX file and its weight files, from the manifest."""
    entry = bundle.graphs[graph]
    text = "\n".join(f.sha256 for f in (entry.file, *entry.external))
    return hashlib.sha256(text.encode()).hexdigest()


def write_record(path: Path, record: EngineRecord) -> None:
    """Write the record of the engine at `path`, with a digest over its own content."""
    data = {"schema": SCHEMA, **dataclasses.asdict(record)}
    text = json.dumps({**data, "digest": digest_of(data)}, indent=1)
    _record_path(path).write_text(text + "\n", encoding="utf-8")


def read_record(path: Path) -> EngineRecord:
    """The record of the engine at `path`; BundleError when it is missing, edited or old."""
    file = _record_path(path)
    if not file.is_file():
        raise BundleError(f"expected {file} beside the engine, found none: {_BUILD}")
    try:
        with file.open("rb") as opened:
            data = strict_json(opened.read(_LARGEST + 1), _LARGEST)
        schema = data["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = line_of(error) if machine_failed(error) else type(error).__name__
        raise BundleError(f"cannot read {file} ({what}): {remedy_of(error, _BUILD)}") from None
    if type(schema) is not int or schema != SCHEMA:
        raise BundleError(f"{file} has schema {described(schema)}, expected {SCHEMA}: {_BUILD}")
    if data.get("digest") != digest_of(data):
        raise BundleError(f"{file} was edited (its digest does not match): {_BUILD}")
    try:
        check_schema(data, schema_named(_SCHEMA_FILE))
    except SchemaError as error:
        raise BundleError(f"{file} is not well formed ({error}): {_BUILD}") from None
    profiles = tuple(
        {k: tuple(map(tuple, v)) for k, v in profile.items()} for profile in data["profiles"]
    )
    fields = {k: v for k, v in data.items() if k not in ("schema", "digest")}
    return EngineRecord(**{**fields, "profiles": profiles, "driver": tuple(data["driver"])})


def check_engine(bundle: Bundle, folder: str, graph: str, target: EngineTarget) -> EngineRecord:
    """The record of an engine that may be loaded on `target`.

    Raises SessionError for an engine of another machine, BundleError for files that are not
    what they should be; nothing native is called.
    """
    path = engine_path(bundle, folder, graph)
    record = read_record(path)
    if reasons := list(_incompatibilities(record, bundle, graph, target)):
        raise SessionError(f"engine {path}: {'; '.join(reasons)}: {_BUILD} {bundle.path}")
    if not path.is_file():
        raise BundleError(f"expected the engine {path}, found none: {_BUILD}")
    if (size := path.stat().st_size) != record.size:
        raise BundleError(
            f"{path} has {size} bytes, its record says {record.size} (truncated?): {_BUILD}"
        )
    if (found := file_sha256(path)) != record.sha256:
        raise BundleError(
            f"{path} has sha256 {found[:12]}..., its record says {record.sha256[:12]}...: {_BUILD}"
        )
    return record


def incompatibilities(bundle: Bundle, folder: str, graph: str, target: EngineTarget) -> list[str]:
    """Why an engine cannot be loaded here, one line each; empty when it can."""
    try:
        check_engine(bundle, folder, graph, target)
    except (BundleError, SessionError) as error:
        return [str(error)]
    return []


def _incompatibilities(
    record: EngineRecord, bundle: Bundle, graph: str, target: EngineTarget
) -> Iterator[str]:
    def differs(what: str, expected: Any, found: Any) -> str:
        return f"expected {what} {expected}, found {found}"

    if record.graph != graph:
        yield differs("graph", graph, record.graph)
    if record.source not in bundle.graphs or record.onnx != onnx_digest(bundle, record.source):
        yield "it was built from another export than this bundle's"
    if record.arch != target.arch:
        yield differs("compute capability", _dotted(record.arch), _dotted(target.arch))
    elif record.gpu != target.gpu and not record.hardware_compatible:
        yield differs("GPU", record.gpu, target.gpu)
    if not _same_tensorrt(record, target.tensorrt):
        yield differs("TensorRT", record.tensorrt, target.tensorrt)
    if target.driver < record.driver:
        wanted, found = (".".join(map(str, v)) for v in (record.driver, target.driver))
        yield differs("a driver for CUDA", wanted, found)
    known = digests()
    for name, digest in record.kernels.items():
        if known.get(name) != digest:
            found = "none of that name" if name not in known else "another version"
            yield differs("plugin", name, found)


def _same_tensorrt(record: EngineRecord, found: str) -> bool:
    if record.version_compatible:
        try:
            built, here = (tuple(map(int, v.split(".")[:2])) for v in (record.tensorrt, found))
        except ValueError:  # a record that was not written by us
            return False
        return built[0] == here[0] and built[1] <= here[1]
    return record.tensorrt == found


def _dotted(arch: int) -> str:
    return f"{arch // 10}.{arch % 10}"


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")
