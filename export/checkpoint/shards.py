"""Checkpoints in several files: an index and its shards, as Hugging Face saves large models."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ...configs.bundle import file_sha256
from ...configs.errors import CheckpointError
from ...configs.formats.strict_json import strict_json
from ...configs.remedies import line_of, remedy_of

#: ends the name of an index
INDEX = ".index.json"
#: bytes of an index; one of 10 000 tensors has one million
_LARGEST_INDEX = 1 << 24
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.bin)")


def shard_files(path: Path) -> list[Path]:
    """The files that hold the checkpoint `path`: itself, or the shards it is the index or part of.

    Raises CheckpointError for an index that is none, and for a shard that is missing.
    """
    if path.name.endswith(INDEX):
        names = _listed(path)
    elif match := _SHARD.fullmatch(path.name):
        index = path.with_name(f"{match['stem']}{match['suffix']}{INDEX}")
        count = int(match["count"])
        names = [
            f"{match['stem']}-{i:05d}-of-{count:05d}{match['suffix']}" for i in range(1, count + 1)
        ]
        names = _listed(index) if index.is_file() else names
    else:
        return [path]
    files = [path.with_name(name) for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{path} is one of {len(files)} files of a checkpoint, and {missing[0]} is missing "
            f"beside it{f', with {len(missing) - 1} more' if missing[1:] else ''}: get all of them"
        )
    return files


def files_sha256(files: list[Path]) -> str:
    """The sha256 of a checkpoint: of its file, or of its shards' sha256 in their order."""
    digests = [file_sha256(file) for file in files]
    return digests[0] if len(files) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _listed(index: Path) -> list[str]:
    try:
        with index.open("rb") as file:
            content = strict_json(file.read(_LARGEST_INDEX + 1), _LARGEST_INDEX)
        names = set(content["weight_map"].values())
        # a path would leave the folder
        if not names or any(Path(name).name != name or "\0" in name for name in names):
            raise ValueError("its weight_map names no files beside it")
    except OSError as error:
        remedy = remedy_of(error, "get it again")
        raise CheckpointError(f"{index} cannot be read ({line_of(error)}): {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{index} is no index of a sharded checkpoint ({what}): get it again, or save the "
            "model in one file"
        ) from None
    return sorted(names)
