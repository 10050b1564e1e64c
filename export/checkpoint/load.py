"""Read a SAM 2 checkpoint, whatever wrote it, and say which model it is.

Taken: the original's files (``{"model": ...}``), what its trainer saves beside the weights,
a bare state dict, one under another name (an average) or with a wrapper's prefix, the layout
of Hugging Face transformers, a folder holding one of these, an official name or address, a
hub id. The model is recognised by names and shapes of the tensors, never by the file's name.
Nothing but tensors and plain values is ever unpickled.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...configs.bundle import file_sha256
from ...configs.checks import shown
from ...configs.errors import CheckpointError, InputError, MissingExtraError
from ...configs.models import MODELS, ModelConfig, model_config
from ...configs.progress import Progress, silent
from ..model.sam2 import Sam2, build_model
from .keymap import original_from_transformers

#: files of a folder, best first; a folder holding several others is ambiguous
_KNOWN_FILES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
#: how files of torch begin: a zip archive, or the pickle of older versions
_TORCH = (b"PK\x03\x04", b"\x80")
#: where programs that save more than weights keep them
_CONTAINERS = ("model", "state_dict", "model_state_dict")
_ORIGINAL = "image_encoder.trunk.patch_embed.proj.weight"
_TRANSFORMERS = "vision_encoder.backbone.patch_embed.projection.weight"
_MEMORY = ("memory_attention.", "memory_encoder.", "obj_ptr_proj.")
_AGAIN = "download or save it again"


@dataclass(frozen=True)
class Checkpoint:
    """Weights under the original's names, float32, complete and of the model's shapes."""

    config: ModelConfig
    state: dict[str, Tensor]
    #: of the file that was read
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

    `model` names the model (or describes one that is not in the table) instead of recognising
    it; it must fit the tensors. `image_size` replaces the model's own, in pixels. `progress`
    is told what is being downloaded, bytes done and bytes in all.

    Raises CheckpointError for anything that is no SAM 2 checkpoint or not of that model,
    InputError for an unknown model name or an illegal image size, MissingExtraError when a
    safetensors file is read without that package.
    """
    path = _checkpoint_file(source, progress)
    state = _plain_state(path, _read_tensors(path))
    _check_complete(path, state)
    config = _asked(model) or _recognised(path, state)
    _check_fit(path, state, config, asked=model is not None)
    if image_size is not None:
        config = config.with_image_size(image_size)
    return Checkpoint(config, _float32(path, state), file_sha256(path), str(source))


def model_of(checkpoint: Checkpoint) -> Sam2:
    """The reference model with the checkpoint's weights."""
    model = build_model(checkpoint.config)
    model.load_state_dict(checkpoint.state, strict=True)
    return model


def _asked(model: str | ModelConfig | None) -> ModelConfig | None:
    return model_config(model) if isinstance(model, str) else model


def _checkpoint_file(source: str | os.PathLike[str], progress: Progress) -> Path:
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"checkpoint is {shown(source)}: expected a file, a folder or a name")
    path = Path(source)
    if path.is_dir():
        return _file_in(path)
    if path.is_file():
        return path
    from .download import download_checkpoint, names_a_download

    text = os.fspath(source)
    if text in MODELS and (path := built_in_file(text)).is_file():
        return path
    if names_a_download(text):
        return download_checkpoint(text, progress=progress)
    raise CheckpointError(
        f"{text} is neither a file nor a folder, nor an official name such as "
        "sam2.1_hiera_tiny, nor a hub id such as facebook/sam2.1-hiera-tiny"
    )


def built_in_file(name: str) -> Path:
    """Where weights of the model of that name lie if they ship with the package."""
    return Path(__file__).parents[1] / "data" / f"{name}.safetensors"


def _file_in(folder: Path) -> Path:
    for name in _KNOWN_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    if len(found) == 1:
        return found[0]
    held = ", ".join(p.name for p in found) or "no file ending in " + ", ".join(_SUFFIXES)
    raise CheckpointError(f"expected one checkpoint in folder {folder}, found {held}: name a file")


def _read_tensors(path: Path) -> Mapping[str, Any]:
    """The file's content, as yet unchecked; what it is is read off its first bytes."""
    with path.open("rb") as file:
        head = file.read(9)
    if not head:
        raise CheckpointError(f"{path} is empty: {_AGAIN}")
    if head[8:] == b"{":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # a broken pickle can raise anything
    except Exception as error:
        text = " ".join(str(error).split())
        if "Weights only load failed" in text and (banned := re.search(r"GLOBAL (\S+)", text)):
            raise CheckpointError(
                f"{path} holds more than tensors ({banned[1]}), which is never unpickled: save "
                "its state dict alone, torch.save({'model': model.state_dict()}, path)"
            ) from None
        # of what is no pickle at all the error speaks of something else
        why = text[:100] if head.startswith(_TORCH) else "neither a torch nor a safetensors file"
        raise CheckpointError(f"{path} is no checkpoint, or truncated ({why}): {_AGAIN}") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a state dict: save it as "
            "torch.save({'model': model.state_dict()}, path)"
        )
    return content


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
            f"{path} is no safetensors file, or truncated ({error}): {_AGAIN}"
        ) from None


def _plain_state(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in `content` under the original's names, without a wrapper's prefix."""
    for key in _CONTAINERS:
        held = content.get(key)
        # the name may also hold a configuration
        if isinstance(held, Mapping) and _tensors(held, nested=True):
            content = held
            break
    state = _tensors(content)
    for anchor in (_ORIGINAL, _TRANSFORMERS):
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
            state = {k[len(start) :]: v for k, v in everything.items() if k.startswith(start)}
            return state if anchor == _ORIGINAL else original_from_transformers(state)
    if any(key.endswith("image_encoder.blocks.0.attn.rel_pos_h") for key in state):
        raise CheckpointError(f"{path} is a checkpoint of SAM 1: sam2rt runs SAM 2 and SAM 2.1")
    names = ", ".join(map(str, list(content)[:3])) or "nothing"
    raise CheckpointError(
        f"{path} holds no SAM 2 weights: expected tensors such as {_ORIGINAL}, found {names}"
    )


def _tensors(content: Mapping[str, Any], *, nested: bool = False) -> dict[str, Tensor]:
    """Tensors by name, if `nested` also those of mappings in it, under dotted names."""
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(value, Tensor) and isinstance(key, str):
            found[key] = value
        elif nested and isinstance(value, Mapping):
            inner = _tensors(value, nested=True)
            found.update((f"{key}.{name}", tensor) for name, tensor in inner.items())
    return found


def _under(anchor: str, state: Mapping[str, Tensor]) -> list[str]:
    return sorted(key.removesuffix(anchor) for key in state if key.endswith(anchor))


def _traits(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What names and shapes tell of a model: values of fields of ModelConfig."""
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    blocks = {int(m[1]) for key in shapes if (m := re.match(r".*\.trunk\.blocks\.(\d+)\.", key))}
    # the first block of a stage changes the width, and has a projection for that
    starts = [n for n in sorted(blocks) if f"image_encoder.trunk.blocks.{n}.proj.weight" in shapes]
    bounds = [0, *starts, max(blocks, default=-1) + 1]
    layers = {m[1] for key in shapes if (m := re.match(r"memory_attention\.layers\.(\d+)", key))}
    extras = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")
    traits: dict[str, Any] = {
        "family": "2.1" if any(key in shapes for key in extras) else "2.0",
        "stages": tuple(b - a for a, b in itertools.pairwise(bounds)),
        "memory_attention_layers": len(layers),
    }
    places = [
        ("embed_dim", _ORIGINAL, slice(0, 1)),
        ("pos_embed_size", "image_encoder.trunk.pos_embed", slice(2, 4)),
        ("hidden_dim", "no_mem_embed", slice(2, 3)),
        ("num_maskmem", "maskmem_tpos_enc", slice(0, 1)),
        ("mem_dim", "maskmem_tpos_enc", slice(3, 4)),
        ("memory_attention_ffn", "memory_attention.layers.0.linear1.weight", slice(0, 1)),
    ]
    for field, key, where in places:
        if found := shapes.get(key, ())[where]:
            traits[field] = found if field == "pos_embed_size" else found[0]
    return traits


def _recognised(path: Path, state: Mapping[str, Tensor]) -> ModelConfig:
    traits = _traits(state)
    wrong = {
        name: {f: v for f, v in traits.items() if getattr(config, f) != v}
        for name, config in MODELS.items()
    }
    matches = [name for name, differing in wrong.items() if not differing]
    if len(matches) == 1:
        return MODELS[matches[0]]
    if matches:
        raise CheckpointError(f"{path} fits the models {', '.join(matches)}: name one with --model")
    closest = min(wrong, key=lambda name: len(wrong[name]))
    differences = ", ".join(
        f"{field} {found} instead of {getattr(MODELS[closest], field)}"
        for field, found in wrong[closest].items()
    )
    raise CheckpointError(
        f"{path} is of no known model; closest is {closest}, but it has {differences}: "
        "describe it to load_checkpoint with a ModelConfig"
    )


def _check_complete(path: Path, state: Mapping[str, Tensor]) -> None:
    if not any(key.startswith(_MEMORY) for key in state):
        raise CheckpointError(
            f"{path} holds the image part alone (Sam2Model of transformers?), without memory: "
            "use the whole model's checkpoint (Sam2VideoModel, or the original's .pt)"
        )


def _check_fit(
    path: Path, state: Mapping[str, Tensor], config: ModelConfig, *, asked: bool
) -> None:
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in Sam2(config).state_dict().items()}
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    other = [
        f"{key} {list(state[key].shape)} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if not (missing or unexpected or other):
        return
    found = "; ".join(
        f"{len(keys)} {what} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})"
        for what, keys in [
            ("missing", missing), ("unexpected", unexpected), ("of another shape", other),
        ]
        if keys
    )  # fmt: skip
    if asked:
        likely = [n for n, c in MODELS.items() if _fits(_traits(state), c) and c != config]
        hint = f"it looks like {likely[0]}" if likely else "check the name given as the model"
    else:
        hint = f"it looks like {config.name}, changed or incomplete: {_AGAIN}"
    raise CheckpointError(f"{path} does not fit {config.name}, tensors {found}: {hint}")


def _fits(traits: Mapping[str, Any], config: ModelConfig) -> bool:
    return all(getattr(config, field) == value for field, value in traits.items())


def _float32(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for key, value in state.items():
        if not value.is_floating_point():
            raise CheckpointError(
                f"{path}: {key} is {value.dtype}, expected floating point "
                "(a quantised checkpoint?): use the original weights"
            )
        if value.layout != torch.strided or value.is_meta:
            kind = "meta, without values" if value.is_meta else str(value.layout)
            raise CheckpointError(f"{path}: {key} is {kind}, expected a dense tensor: {_AGAIN}")
    plain = {key: value.detach().float().contiguous() for key, value in state.items()}
    broken = [key for key, value in plain.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(
            f"{path}: {broken[0]} holds NaN or infinity, and so do {len(broken) - 1} more "
            "tensors (did the training diverge?): use an earlier checkpoint"
        )
    return plain
