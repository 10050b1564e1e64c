"""Weights that were never trained, for demonstrations and tests without a checkpoint.

Torch's own initialisation leaves biases, position tables and layer scales at zero, so that
mistakes in them cannot show, and every object is absent. These weights exercise everything:
each tensor has a random stream of its own, scaled so that activations keep their size.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...configs.models import ModelConfig
from .sam2 import Sam2

#: keys with these endings are tables that are added to something: mean 0, this deviation
_TABLES = {
    "gaussian_matrix": 1.0, "pos_embed": 0.3, "pos_embed_window": 0.3, "maskmem_tpos_enc": 0.5,
    "no_mem_embed": 0.5, "no_mem_pos_enc": 0.5, "no_obj_ptr": 0.5, "no_obj_embed_spatial": 0.5,
    "embed.weight": 0.7, "token.weight": 0.7, "tokens.weight": 0.7,
}  # fmt: skip
#: gains where a module's effect would otherwise vanish in what it is added to, or drown the
#: rest: memories far larger than features make attention jump at the last bit
_GAINS = {
    "memory_encoder.out_proj.weight": 0.3,
    "cross_attn_image.out_proj.weight": 3.0, "encoder.12.weight": 3.0,
    "iou_prediction_head.layers.2.weight": 3.0, "pred_obj_score_head.layers.2.weight": 1.0,
    "mask_downsample.weight": 8.0, "q_proj.weight": 2.0, "k_proj.weight": 2.0,
}  # fmt: skip
#: the object score's offset: present, as nearly every object of a real clip is
_PRESENT = ("pred_obj_score_head.layers.2.bias", 8.0)


def untrained_state(config: ModelConfig, seed: int = 1) -> dict[str, Tensor]:
    """A state dict of float32 tensors for that model, the same for the same seed."""
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in Sam2(config).state_dict().items()}
    return {key: torch.from_numpy(_values(key, shape, seed)) for key, shape in shapes.items()}


def _values(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    stream = np.random.default_rng([seed, zlib.crc32(key.encode())])
    mean, scale = _moments(key, shape)
    values: NDArray[np.float32] = stream.standard_normal(shape, np.float32)
    values *= np.float32(scale)
    values += np.float32(mean)
    return values


def _moments(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and deviation of one tensor's values."""
    if key.endswith(".gamma"):
        return 0.5, 0.1
    if ".point_embeddings." in key:
        return 0.0, 0.7
    for end, scale in _TABLES.items():
        if key.endswith(end):
            return 0.0, scale
    if len(shape) == 1:
        offset = _PRESENT[1] if key.endswith(_PRESENT[0]) else 0.0
        return (1.0 if key.endswith("weight") else offset), 0.1
    # transposed convolutions, stride and side 2: each output sees shape[0] inputs once
    fan_in = shape[0] if ".output_upscaling." in key else int(np.prod(shape[1:]))
    gain = next((g for end, g in _GAINS.items() if key.endswith(end)), 1.4)
    return 0.0, gain / fan_in**0.5
