"""The model repository: a folder with a configuration and a few lines of Python a model.

A folder is replaced only where it is empty, or holds what :func:`write_repository` wrote there and
nobody changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ...configs.staging import replaced_folder
from ...configs.version import VERSION
from ..sessions.limits import ServerLimits
from .config_file import config_text
from .settings import ModelSettings

#: which model code a task's ``model.py`` names
TASKS = {
    "image": ("image_model", "ServedImageModel"),
    "stream": ("stream_model", "ServedStreamModel"),
    "video": ("video_model", "ServedVideoModel"),
}
#: what says that a folder is ours, with the digest of each file
MARK = "sam2rt.json"
#: what Python leaves beside a module
_CACHE = re.compile(r"sam2rt_\w+/1/__pycache__(/[^/]+\.pyc)?")
_FILES = re.compile(r"sam2rt_(image|stream|video)(/1(/model\.py)?|/config\.pbtxt)?")
_MODEL = '''"""Written by 'sam2rt triton': the server's own module, handed to the package."""

import triton_python_backend_utils

from sam2rt.serving.triton.{module} import {name}


class TritonPythonModel({name}):
    server = triton_python_backend_utils
'''


@dataclass(frozen=True)
class RepositoryOptions:
    """What ``sam2rt triton`` is told; see its help. at: where the server finds the bundle."""

    tasks: tuple[str, ...] = tuple(TASKS)
    at: Path | None = None
    backend: str = "onnxruntime"
    device: str = "cpu"
    threads: int | None = None
    gpus: tuple[int, ...] = ()
    limits: ServerLimits = field(default_factory=ServerLimits)

    @property
    def on_gpu(self) -> bool:
        """Whether an instance is one of an NVIDIA GPU."""
        on_cuda = self.backend == "onnxruntime" and self.device in ("cuda", "tensorrt")
        return on_cuda or self.backend == "tensorrt"


def write_repository(
    bundle: Bundle, target: str | os.PathLike[str], options: RepositoryOptions
) -> dict[str, Any]:
    """Write the repository to `target`, whole or not at all; gives what its mark says.

    Raises InputError for options that do not go together, and for a folder that holds anything
    but an unchanged repository of this program.
    """
    _check(options)
    final = Path(os.path.realpath(target))
    if final.exists() and not final.is_dir():
        raise InputError(f"{target} is a file: name a folder for the repository")
    if foreign := foreign_to_repository(final):
        raise InputError(
            f"folder {target} holds {foreign}, which 'sam2rt triton' did not write so: move it, or "
            "name another folder"
        )
    place = options.at or Path(os.path.abspath(bundle.path))
    settings = ModelSettings(
        place, options.backend, options.device, options.threads, options.limits
    )
    with replaced_folder(final, foreign_to_repository) as work:
        files = _files(settings, options)
        for name, text in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text, encoding="utf-8")
        mark = {
            "program": "sam2rt",
            "version": VERSION,
            "bundle": str(place),
            "models": [f"sam2rt_{task}" for task in TASKS if task in options.tasks],
            "files": {name: _digest(text.encode("utf-8")) for name, text in files.items()},
        }
        (work / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
    return mark


def foreign_to_repository(folder: Path) -> str | None:
    """Something in the folder, relative to it, that was not written there, or changed since."""
    if not folder.is_dir():
        return None
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    if not paths:
        return None
    written = _written(paths.pop(MARK, None))
    if written is None:
        return min(paths, default=MARK)
    for name, path in sorted(paths.items()):
        if path.is_dir() and not path.is_symlink():
            known = bool(_FILES.fullmatch(name) or _CACHE.fullmatch(name))
        else:
            known = bool(_CACHE.fullmatch(name)) or _is_as_written(path, written.get(name))
        if not known:
            return name
    return None


def _written(mark: Path | None) -> dict[str, Any] | None:
    """The digests of a mark; None where it is none of ours."""
    if mark is None or not mark.is_file():
        return None
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    known = isinstance(found, dict) and found.get("program") == "sam2rt"
    files = found.get("files") if known else None
    return files if isinstance(files, dict) else None


def _is_as_written(path: Path, digest: Any) -> bool:
    return path.is_file() and _digest(path.read_bytes()) == digest


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(settings: ModelSettings, options: RepositoryOptions) -> dict[str, str]:
    files = {}
    for task, (module, name) in TASKS.items():
        if task in options.tasks:
            kind = "KIND_GPU" if options.on_gpu else "KIND_CPU"
            config = config_text(task, settings, kind, options.gpus)
            files[f"sam2rt_{task}/config.pbtxt"] = config
            files[f"sam2rt_{task}/1/model.py"] = _MODEL.format(module=module, name=name)
    return files


def _check(options: RepositoryOptions) -> None:
    for task in options.tasks:
        if task not in TASKS:
            raise InputError(f"unknown task '{task}': expected some of {', '.join(TASKS)}")
    if not options.tasks:
        raise InputError(f"no task was named: expected some of {', '.join(TASKS)}")
    if options.gpus and not options.on_gpu:
        raise InputError(
            f"GPUs were named for backend {options.backend} on {options.device}: take "
            "backend='tensorrt', or device='cuda' with onnxruntime"
        )
    if len(set(options.gpus)) < len(options.gpus):
        raise InputError(f"GPUs {list(options.gpus)}: expected each number once")
    if options.at is not None and not options.at.is_absolute():
        raise InputError(f"{options.at} is no absolute path: the server has a folder of its own")
