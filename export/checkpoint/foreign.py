"""Checkpoints of relatives that cannot be run, recognised by names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ...configs.errors import CheckpointError

#: a model, and what the name of one of its tensors holds that SAM 2 lacks; the first hit counts
_RELATIVES = [
    ("SAM 3", r"(^|\.)(vision_backbone\.trunk|detector_model|tracker_model)\."),
    ("EdgeTAM", r"(^|\.)spatial_perceiver\.|image_encoder\.trunk\.body\.|backbone\.timm_model\."),
    ("HQ-SAM 2", r"sam_mask_decoder\.hf_token\.weight$"),
    ("HQ-SAM", r"mask_decoder\.(hf_token\.weight|hq_token\.weight)$"),
    ("MobileSAM", r"image_encoder\.patch_embed\.seq\."),
    ("SAM 1", r"image_encoder\.blocks\.0\.attn\.rel_pos_h$"),
    ("SAM 1", r"vision_encoder\.layers\.0\.attn\.rel_pos_h$"),
]
_ADAPTER = re.compile(r"(^|\.)lora_(A|B|a|b|down|up|embedding_A|embedding_B)(\.|$)")
_POSITIONS = "image_encoder.trunk.pos_embed"


def refuse_relatives(path: Path, state: Mapping[str, Tensor]) -> None:
    """CheckpointError naming the model, if tensors of these names are of a known other one.

    state: all tensors of the file, under whatever names.
    """
    if found := next((name for name in state if _ADAPTER.search(name)), None):
        raise CheckpointError(
            f"{path} holds LoRA adapters ({found}): merge them into the model they were trained "
            "on (merge_and_unload of peft), and save that"
        )
    model = next((m for m, key in _RELATIVES if any(re.search(key, n) for n in state)), None)
    # a plain vision transformer under the names of SAM 2's: positions [1, tokens, channels]
    plain = any(n.endswith(_POSITIONS) and value.ndim == 3 for n, value in state.items())
    if plain or model is not None:
        raise CheckpointError(
            f"{path} is a checkpoint of {model or 'EfficientTAM'}: sam2rt runs SAM 2 and SAM 2.1"
        )
