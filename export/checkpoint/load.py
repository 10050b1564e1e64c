"""Load a SAM 2 checkpoint: find its file, read it, and say which model it is.

It may be a file, a folder holding one, an official name or address, or a hub id.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...configs.checks import shown
from ...configs.errors import CheckpointError, InputError
from ...configs.models import BUILT_IN, MODELS, ModelConfig, model_config
from ...configs.progress import Progress, silent
from ...configs.remedies import line_of, remedy_of
from ..model.sam2 import Sam2, build_model
from .download import download_checkpoint
from .official import OFFICIAL, names_a_download, official_name
from .read import float32, plain_state, read_files
from .recognise import check_complete, check_fit, recognised
from .shards import INDEX, files_sha256, shard_files

#: files of a folder, best first; a folder holding several others is ambiguous
_KNOWN_FILES = (
    "model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)  # fmt: skip
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """Weights under the original's names, float32, complete and of the model's shapes."""

    config: ModelConfig
    state: dict[str, Tensor]
    #: of the file that was read; of several files, see files_sha256
    sha256: str
    source: str


def load_checkpoint(
    source: str | os.PathLike[str],
    *,
    model: str | ModelConfig | None = None,
    image_size: int | None = None,
    progress: Progress = silent,
) -> Checkpoint:
    """The checkpoint at `source`: a file, a folder, an official name or URL, or a hub id.

    A checkpoint in shards is given by its folder, its index or any of its shards.

    `model` names the model (or describes one that is not in the table) instead of recognising
    it; it must fit the tensors. `image_size` replaces the model's own, in pixels. `progress`
    gets what is being downloaded, bytes done and bytes in all.

    Raises CheckpointError for anything that is no SAM 2 checkpoint or not of that model,
    InputError for an unknown model name or an illegal image size, MissingExtraError when a
    safetensors file is read without that package.
    """
    path = _checkpoint_file(source, progress)
    files = shard_files(path)
    state = plain_state(path, read_files(files))
    check_complete(path, state)
    config = _asked(model) or recognised(path, state)
    check_fit(path, state, config, asked=model is not None)
    if image_size is not None:
        config = config.with_image_size(image_size)
    return Checkpoint(config, float32(path, state), files_sha256(files), str(source))


def checkpoint_sha256(source: str | os.PathLike[str], *, progress: Progress = silent) -> str:
    """sha256 of what :func:`load_checkpoint` reads of `source`, downloaded if need be.

    An official file is not fetched for it, since its sha256 is known. Raises what
    :func:`load_checkpoint` raises for a source that is no file.
    """
    name = None if _is_there(source) else official_name(os.fspath(source))
    if name is not None and (known := OFFICIAL[name].sha256):
        return known
    path = _checkpoint_file(source, progress)
    try:
        return files_sha256(shard_files(path))
    except OSError as error:
        remedy = remedy_of(error, "expected a checkpoint of yours")
        raise CheckpointError(f"{path} cannot be read ({line_of(error)}): {remedy}") from None


def _is_there(source: str | os.PathLike[str]) -> bool:
    """Whether `source` is the path of something. Raises InputError for what is no path."""
    # an empty path would be the working folder; no name of the system's holds a NUL
    if not isinstance(source, (str, os.PathLike)) or not str(source) or "\0" in str(source):
        raise InputError(f"checkpoint is {shown(source)}: expected a file, a folder or a name")
    return os.path.exists(source)


def model_of(checkpoint: Checkpoint) -> Sam2:
    """The reference model with the checkpoint's weights."""
    model = build_model(checkpoint.config)
    model.load_state_dict(checkpoint.state, strict=True)
    return model


def _asked(model: str | ModelConfig | None) -> ModelConfig | None:
    return model_config(model) if isinstance(model, str) else model


def _checkpoint_file(source: str | os.PathLike[str], progress: Progress) -> Path:
    there, path, text = _is_there(source), Path(source), os.fspath(source)
    if there and path.is_dir():
        return _file_in(path)
    if there and path.is_file():
        return path
    if text in MODELS and (path := built_in_file(text)).is_file():
        return path
    if names_a_download(text):
        return download_checkpoint(text, progress=progress)
    raise CheckpointError(
        f"{text} is neither a file nor a folder, nor an official name such as "
        f"sam2.1_hiera_tiny, nor a hub id such as facebook/sam2.1-hiera-tiny{_meant(text)}"
    )


def _meant(text: str) -> str:
    """What was probably meant by a name that is none; the names where nothing is alike."""
    known = [BUILT_IN, *OFFICIAL]
    if alike := difflib.get_close_matches(text.replace("-", "_"), known, 1):
        return f": did you mean {alike[0]}?"
    # a path that is not there is no misspelt name
    return "" if set("./\\") & set(text) else f": names are {', '.join(known)}"


def built_in_file(name: str) -> Path:
    """Where weights of the model of that name lie if they ship with the package."""
    return Path(__file__).parents[1] / "data" / f"{name}.safetensors"


def _file_in(folder: Path) -> Path:
    for name in _KNOWN_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    indices = sorted(p for p in folder.glob(f"*{INDEX}") if p.is_file())
    if len(indices) == 1 and set(found) <= set(shard_files(indices[0])):
        return indices[0]
    if len(found) == 1 or (found and set(found) <= set(shard_files(found[0]))):
        return found[0]
    held = ", ".join(p.name for p in found) or "no file ending in " + ", ".join(_SUFFIXES)
    raise CheckpointError(f"expected one checkpoint in folder {folder}, found {held}: name a file")
