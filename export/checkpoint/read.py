"""Read a file of weights, whatever wrote it, as a state dict under the original's names.

Taken: the original's files (``{"model": ...}``), what its trainer saves beside the weights,
a bare state dict, one under another name (an average) or with names of wrappers in it, the layout
of Hugging Face transformers, in one file or in shards. Nothing but tensors and plain values is
ever unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...configs.errors import CheckpointError, MissingExtraError
from ...configs.remedies import line_of, machine_failed, remedy_of
from .bounds import SAVE_AGAIN, check_bounds
from .foreign import refuse_relatives
from .keymap import original_from_transformers

#: how files of torch begin: a zip archive, or the pickle of older versions
_TORCH = (b"PK\x03\x04", b"\x80")
#: where programs that save more than weights keep them
_CONTAINERS = ("model", "state_dict", "model_state_dict")
#: what torch puts into names: torch.compile, (distributed) data parallel, sharding, checkpointing
_WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
#: a tensor that every checkpoint of the original's layout has, and one of transformers'
ORIGINAL = "image_encoder.trunk.patch_embed.proj.weight"
_TRANSFORMERS = "vision_encoder.backbone.patch_embed.projection.weight"
#: names of all dicts in a file together, levels of them, characters of a name: trainers save the
#: optimizer's state by parameter, some 10 000 names on 5 levels
_MOST_NAMES, _DEEPEST, _LONGEST_NAME = 100_000, 16, 1000


def read_tensors(path: Path) -> Mapping[str, Any]:
    """The file's content, as yet unchecked; its format is read off its first bytes.

    Raises CheckpointError for a file that is empty, truncated, no checkpoint or holds more than
    tensors, MissingExtraError without the package safetensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not head:
        raise CheckpointError(f"{path} is empty: {SAVE_AGAIN}")
    is_torch = head.startswith(_TORCH)
    if is_torch or head[8:] == b"{":
        check_bounds(path, head)
    if head[8:] == b"{":
        return _read_safetensors(path)
    if not is_torch:
        # of what is no pickle at all the reader's error would speak of something else
        why = "neither a torch nor a safetensors file"
        raise CheckpointError(f"{path} is no checkpoint, or truncated ({why}): {SAVE_AGAIN}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # a broken pickle can raise anything
    except Exception as error:
        if machine_failed(error):
            raise _unreadable(path, error) from None
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or "can't allocate memory" in text:
            raise MemoryError(f"to read {path}") from None
        if "Weights only load failed" in text and (banned := re.search(r"GLOBAL (\S+)", text)):
            raise CheckpointError(
                f"{path} holds more than tensors ({banned[1]}), which is never unpickled: save "
                "its state dict alone, torch.save({'model': model.state_dict()}, path)"
            ) from None
        raise CheckpointError(
            f"{path} is no checkpoint, or truncated ({text[:100]}): {SAVE_AGAIN}"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a state dict: save it as "
            "torch.save({'model': model.state_dict()}, path)"
        )
    return content


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    remedy = remedy_of(error, SAVE_AGAIN)
    return CheckpointError(f"{path} cannot be read ({line_of(error)}): {remedy}")


def read_files(files: Sequence[Path]) -> Mapping[str, Any]:
    """The content of a checkpoint's files together; errors as of :func:`read_tensors`."""
    if len(files) == 1:
        return read_tensors(files[0])
    return {name: value for file in files for name, value in read_tensors(file).items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise MissingExtraError(f"reading {path.name}", "safetensors", "export") from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is no safetensors file, or truncated ({error}): {SAVE_AGAIN}"
        ) from None


def plain_state(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in `content` under the original's names, without a wrapper's prefix.

    Raises CheckpointError when there is none, or more than one.
    """
    _check_names(path, content)
    for key in _CONTAINERS:
        held = content.get(key)
        # the name may also hold a configuration
        if isinstance(held, Mapping) and _tensors(held, nested=True):
            content = held
            break
    state = _tensors(content)
    refuse_relatives(path, state or _tensors(content, nested=True))
    for anchor in (ORIGINAL, _TRANSFORMERS):
        # weights under a name of their own (an average, say) count where there are no others
        everything = state if _under(anchor, state) else _tensors(content, nested=True)
        prefixes = _under(anchor, everything)
        if len(prefixes) > 1:
            raise CheckpointError(
                f"{path} holds {len(prefixes)} models, under "
                f"{', '.join(repr(p) for p in prefixes)}: save one of them alone"
            )
        if prefixes:
            start = prefixes[0]
            # what stands beside the prefix belongs to the wrapper
            state = _inside(path, start, everything)
            return state if anchor == ORIGINAL else original_from_transformers(state)
    names = ", ".join(f"{k:.100}" for k in list(content)[:3] if isinstance(k, str)) or "nothing"
    raise CheckpointError(
        f"{path} holds no SAM 2 weights: expected tensors such as {ORIGINAL}, found {names}"
    )


def _check_names(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse names without end: dicts that hold themselves, or one many times over."""
    inside: list[tuple[Mapping[str, Any], int, int]] = [(content, 1, 0)]
    count = 0
    while inside:
        held, depth, length = inside.pop()
        count += len(held)
        # a mapping in it is met as often as it has names
        for key, value in held.items():
            if isinstance(key, str) and length + len(key) > _LONGEST_NAME:
                raise CheckpointError(
                    f"{path} holds a name of more than {_LONGEST_NAME} characters: {SAVE_AGAIN}"
                )
            if isinstance(value, Mapping):
                longer = length + (len(key) if isinstance(key, str) else 1) + 1
                inside.append((value, depth + 1, longer))
        if depth > _DEEPEST or count > _MOST_NAMES:
            raise CheckpointError(
                f"{path} holds dicts more than {_DEEPEST} levels deep, or more than {_MOST_NAMES} "
                "names: save its state dict alone, torch.save({'model': model.state_dict()}, path)"
            )


def _inside(path: Path, start: str, everything: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `start`, without it and without names of wrappers."""
    inside = {k[len(start) :]: v for k, v in everything.items() if k.startswith(start)}
    state = {_without_wrappers(k): v for k, v in inside.items()}
    if len(state) < len(inside):
        raise CheckpointError(
            f"{path} holds tensors twice, with and without names of wrappers such as "
            f"{', '.join(sorted(_WRAPPERS))}: save the inner module alone"
        )
    return state


def _tensors(content: Mapping[str, Any], *, nested: bool = False) -> dict[str, Tensor]:
    """Tensors by name, if `nested` also those of mappings in it, under dotted names."""
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(value, Tensor) and isinstance(key, str):
            found[key] = value
        elif nested and isinstance(value, Mapping) and isinstance(key, str):
            inner = _tensors(value, nested=True)
            found.update((f"{key}.{name}", tensor) for name, tensor in inner.items())
    return found


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _under(anchor: str, state: Mapping[str, Tensor]) -> list[str]:
    """What stands before the model's own names, with wrappers that stand right before them."""
    root = anchor.partition(".")[0]
    found = set()
    for key in state:
        if _without_wrappers(key).endswith(anchor):
            parts = key.split(".")
            own = [i for i, part in enumerate(parts) if part == root]
            # a prefix may end without a dot
            start = "".join(f"{part}." for part in parts[: own[-1]]) if own else None
            found.add(key.removesuffix(anchor) if start is None else start)
    return sorted(found)


def float32(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as dense float32; CheckpointError for quantised, empty or infinite ones."""
    for key, value in state.items():
        if not value.is_floating_point():
            raise CheckpointError(
                f"{path}: {key} is {value.dtype}, expected floating point "
                "(a quantised checkpoint?): use the original weights"
            )
        if value.layout != torch.strided or value.is_meta:
            kind = "meta, without values" if value.is_meta else str(value.layout)
            raise CheckpointError(f"{path}: {key} is {kind}, expected a dense tensor: {SAVE_AGAIN}")
    plain = {key: value.detach().float().contiguous() for key, value in state.items()}
    broken = [key for key, value in plain.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(
            f"{path}: {broken[0]} holds NaN or infinity, and so do {len(broken) - 1} more "
            "tensors (did the training diverge?): use an earlier checkpoint"
        )
    return plain
