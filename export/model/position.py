"""Positional encodings: sine grids, rotary tables, random Fourier features, temporal distance.

All of them are constants of the model's geometry (or small functions of a prompt), written
with real arithmetic so that they export as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

TEMPERATURE = 10000.0


def _wavelengths(count: int) -> Tensor:
    """10000^(2 (i // 2) / count) for i < count (arXiv 1706.03762, section 3.5)."""
    index = torch.arange(count, dtype=torch.float32)
    exponent: Tensor = 2 * torch.div(index, 2, rounding_mode="floor") / count
    return TEMPERATURE**exponent


def sine_grid(channels: int, size: int) -> Tensor:
    """Sine position encoding of a square grid, [1, channels, size, size] float32.

    Positions 1..size are scaled to (0, 2 pi]; the first half of the channels encodes y, the
    second x, sine and cosine interleaved (DETR, arXiv 2005.12872, appendix A.4).
    """
    half = channels // 2
    line = torch.arange(1, size + 1, dtype=torch.float32) / (size + 1e-6) * (2 * math.pi)
    angle = line[:, None] / _wavelengths(half)
    wave = torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)
    y = wave[:, None, :].expand(size, size, half)
    x = wave[None, :, :].expand(size, size, half)
    return torch.cat((y, x), dim=2).permute(2, 0, 1)[None].contiguous()


def sine_1d(position: Tensor, channels: int) -> Tensor:
    """Sine encoding of scalars: [...] -> [..., channels], all sines before all cosines."""
    angle = position[..., None] / _wavelengths(channels // 2).to(position)
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def rotary_table(channels: int, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of axial rotary embedding, two [size * size, channels / 2] float32.

    The first half of the pairs turns with x, the second with y (arXiv 2403.13298, section 3).
    """
    frequency = 1.0 / TEMPERATURE ** (torch.arange(0, channels, 4)[: channels // 4] / channels)
    token = torch.arange(size * size, dtype=torch.float32)
    x, y = token % size, torch.div(token, size, rounding_mode="floor")
    angle = torch.cat((torch.outer(x, frequency), torch.outer(y, frequency)), dim=1)
    return angle.cos(), angle.sin()


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the adjacent channel pairs (2i, 2i + 1) of [..., L, C] by the angles [L, C / 2]."""
    even, odd = x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class RandomFourier(nn.Module):
    """Random Fourier features of points in the unit square (arXiv 2006.10739)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(2, channels // 2))

    def forward(self, points: Tensor) -> Tensor:
        """Points x, y in [0, 1], [..., 2] -> [..., channels]: all sines, then all cosines."""
        angle = (2 * points - 1) @ self.positional_encoding_gaussian_matrix * (2 * math.pi)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    def grid(self, size: int) -> Tensor:
        """Encoding of the centres of a square grid, [1, channels, size, size]."""
        matrix = self.positional_encoding_gaussian_matrix
        line = (torch.arange(size, dtype=matrix.dtype, device=matrix.device) + 0.5) / size
        y, x = torch.meshgrid(line, line, indexing="ij")
        encoded: Tensor = self(torch.stack((x, y), dim=-1))
        return encoded.permute(2, 0, 1)[None]
