"""Where an untrained model starts: prompts that point at their place before anything is learned.

A short training first learns what objects look like and only much later to heed the prompt. So
attention between prompts and image starts aligned: queries and keys are the same slices of
the position encoding, and a point attends to its own place. Attention to memories starts at the
same place of the older frame.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..export.model.decoder import TwoWayAttention
from ..export.model.layers import Mlp
from ..export.model.memory import RotaryAttention
from ..export.model.position import TEMPERATURE
from ..export.model.sam2 import Sam2

#: size of aligned weights against which the random ones are scaled down
_ALIGNED, _RANDOM = 1.6, 0.3
#: bias of the memory attention's queries and keys in pairs that turn faster than this a cell
_PLACE, _SLOWEST = 1.3, 0.05


def initialised(model: Sam2) -> Sam2:
    """Set the starting weights in place, from torch's global generator; returns the model."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("gamma"):
                # as built, 1e-6, these blocks would stay idle for thousands of steps
                value.fill_(0.1)
            elif value.numel() and not value.any() and not name.endswith("bias"):
                nn.init.trunc_normal_(value, std=0.02)
        model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.normal_()
        _keep_scale(model.sam_mask_decoder)
        for module in model.sam_mask_decoder.modules():
            if isinstance(module, TwoWayAttention) and _crosses(module):
                _align(module)
        for layer in model.memory_attention.layers:
            _same_place(cast("RotaryAttention", layer.cross_attn_image))
    return model


def _keep_scale(decoder: nn.Module) -> None:
    """Normal weights that keep a signal's size through the perceptrons (arXiv 1502.01852).

    torch's own start shrinks it to a few per cent: masks would hardly depend on their tokens.
    """
    for module in decoder.modules():
        if isinstance(module, Mlp):
            for layer in cast("list[nn.Linear]", module.layers):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)


def _crosses(attention: TwoWayAttention) -> bool:
    """Whether this attention leads between tokens and image: those have half the width."""
    return attention.q_proj.out_features < attention.q_proj.in_features


def _align(attention: TwoWayAttention) -> None:
    """Each head compares sines and cosines of some frequencies of the position encoding."""
    inner, width = attention.q_proj.weight.shape
    frequencies = torch.randperm(width // 2)[: inner // 2]
    rows = torch.arange(0, inner, 2)
    aligned = torch.zeros(inner, width)
    aligned[rows, frequencies] = _ALIGNED
    aligned[rows + 1, width // 2 + frequencies] = _ALIGNED
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight.mul_(_RANDOM).add_(aligned)
        projection.bias.zero_()


def _same_place(attention: RotaryAttention) -> None:
    """Constant queries and keys: rotated by their places, they agree most at equal places."""
    width = attention.q_proj.out_features
    speed = 1.0 / TEMPERATURE ** (torch.arange(0, width, 4) / width)
    quick = (speed > _SLOWEST).float() * _PLACE
    bias: Tensor = torch.zeros(width)
    bias[0::2] = torch.cat((quick, quick))
    attention.q_proj.bias.copy_(bias)
    attention.k_proj.bias.copy_(bias)
