"""Compiled models of OpenVINO, kept in the user's cache: reading one takes half of compiling it.

A file's name is a hash over all that decides what is compiled, and the file begins with the hash
of what follows, so that one that is cut short is compiled anew. Nothing here fails: where no cache
can be kept, graphs are compiled each time.

OpenVINO's own cache is not used: it grows without bound and takes what lies in its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..configs.errors import Sam2rtError
from ..configs.staging import replaced_file
from .caches import keep_within, private_folder, read_own

#: folder of the user's cache
FOLDER = "openvino"
SUFFIX = ".model"
#: bytes of all models that are kept; a bundle of tiny at 1024 takes 0.4 GB, one of large 2 GB
LARGEST = 6 << 30
_DIGEST = hashlib.sha256().digest_size


def model_key(facts: Mapping[str, Any]) -> str:
    """The name of a compiled model: sha256 over all facts that decide it, as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def kept_model(core: Any, key: str, device: str, options: Mapping[str, Any]) -> Any:
    """The compiled model of that key, or None where none is kept that can be read."""
    folder = private_folder(FOLDER)
    path = folder / f"{key}{SUFFIX}" if folder else None
    content = read_own(path) if path else None
    if path is None or content is None:
        return None
    blob = content[_DIGEST:]
    if hashlib.sha256(blob).digest() != content[:_DIGEST]:
        return None
    try:
        model = core.import_model(blob, device, dict(options))
    except Exception:
        # whatever OpenVINO dislikes in it: it is compiled anew and replaced
        return None
    # when it was last used
    with suppress(OSError):
        os.utime(path)
    return model


def keep_model(model: Any, key: str) -> Path | None:
    """Keep a compiled model for the next process; where it lies, or None where it cannot be.

    Two processes may do so at once: each writes a file of its own and moves it into place.
    """
    folder = private_folder(FOLDER)
    if folder is None:
        return None
    path = folder / f"{key}{SUFFIX}"
    try:
        blob = model.export_model().getvalue()
        with replaced_file(path) as part, part.open("wb") as file:
            file.write(hashlib.sha256(blob).digest())
            file.write(blob)
    except (OSError, RuntimeError, MemoryError, Sam2rtError):
        # no room, no right to write, or a device that cannot export
        return None
    keep_within(folder, f"*{SUFFIX}", LARGEST)
    return path
