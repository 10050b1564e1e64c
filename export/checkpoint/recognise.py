"""Which model a state dict is of, by names and shapes of its tensors; never by the file's name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...configs.errors import CheckpointError
from ...configs.models import MODELS, ModelConfig
from ..model.sam2 import Sam2
from .bounds import SAVE_AGAIN
from .read import ORIGINAL

_MEMORY = ("memory_attention.", "memory_encoder.", "obj_ptr_proj.")


def recognised(path: Path, state: Mapping[str, Tensor]) -> ModelConfig:
    """The one known model of these tensors; CheckpointError where there is none, or several."""
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


def _traits(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What names and shapes tell of a model: values of fields of ModelConfig."""
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    blocks = {
        int(m[1]) for key in shapes if (m := re.match(r".*\.trunk\.blocks\.(\d{1,4})\.", key))
    }
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
        ("embed_dim", ORIGINAL, slice(0, 1)),
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


def check_complete(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse, with CheckpointError, weights without the part that tracks."""
    if not any(key.startswith(_MEMORY) for key in state):
        raise CheckpointError(
            f"{path} holds the image part alone (Sam2Model of transformers?), without memory: "
            "use the whole model's checkpoint (Sam2VideoModel, or the original's .pt)"
        )


def check_fit(path: Path, state: Mapping[str, Tensor], config: ModelConfig, *, asked: bool) -> None:
    """Refuse, with CheckpointError, tensors that are not exactly the model's.

    `asked`: the model was named by the user, so another one may be the right one.
    """
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
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", other),
        ]
        if keys
    )
    if asked:
        likely = [n for n, c in MODELS.items() if _fits(_traits(state), c) and c != config]
        hint = f"it looks like {likely[0]}" if likely else "check the name given as the model"
    else:
        hint = f"it looks like {config.name}, changed or incomplete: {SAVE_AGAIN}"
    raise CheckpointError(f"{path} does not fit {config.name}, tensors {found}: {hint}")


def _fits(traits: Mapping[str, Any], config: ModelConfig) -> bool:
    return all(getattr(config, field) == value for field, value in traits.items())
