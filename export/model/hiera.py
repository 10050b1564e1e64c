"""The image encoder: a Hiera trunk and a feature pyramid neck.

Hiera: arXiv 2306.00989; its use here, with window-wise position embeddings: SAM 2 (arXiv
2408.00714, section 4 and appendix D.1) and arXiv 2311.05613. Every grid size is known from
the model's image size, so window padding and pooling are fixed numbers and only the batch
is dynamic. Grids are channels-last, [B, H, W, C], inside the trunk.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...configs.models import ModelConfig
from .layers import Mlp

#: side of the learned window position table: a window of the first stage
WINDOW_TABLE = 8
LAYER_NORM_EPS = 1e-6


def _pool(x: Tensor) -> Tensor:
    """Maximum over 2x2 cells of [B, H, W, C]."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _padded(size: int, window: int) -> int:
    return -(-size // window) * window


def windows_from_grid(x: Tensor, size: int, window: int) -> Tensor:
    """[B, size, size, C] -> [B * windows, window, window, C], zero-padded right and below."""
    full = _padded(size, window)
    if full != size:
        x = F.pad(x, (0, 0, 0, full - size, 0, full - size))
    count = full // window
    x = x.reshape(-1, count, window, count, window, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window, window, x.shape[-1])


def grid_from_windows(x: Tensor, size: int, window: int) -> Tensor:
    """Inverse of :func:`windows_from_grid`; padding is cut off."""
    full = _padded(size, window)
    count = full // window
    x = x.reshape(-1, count, count, window, window, x.shape[-1])
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, full, full, x.shape[-1])
    return x[:, :size, :size] if full != size else x


class HieraAttention(nn.Module):
    """Multi-head self-attention over a grid; queries may be pooled 2x2 first."""

    def __init__(self, dim: int, dim_out: int, heads: int, pool: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pool = pool
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, dim] -> [B, H, W, dim_out], or half the sides when pooling."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pool:
            q = _pool(q)
        out_shape = q.shape
        q, k, v = (
            t.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.proj(mixed.transpose(1, 2).reshape(out_shape))
        return result


class HieraBlock(nn.Module):
    """Attention and MLP with residuals; `window` 0 means the whole grid of side `size`."""

    def __init__(
        self, dim: int, dim_out: int, heads: int, window: int, size: int, pool: bool
    ) -> None:
        super().__init__()
        self.window, self.size, self.pool = window, size, pool
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = HieraAttention(dim, dim_out, heads, pool)
        self.norm2 = nn.LayerNorm(dim_out, eps=LAYER_NORM_EPS)
        self.mlp = Mlp((dim_out, 4 * dim_out, dim_out), F.gelu)
        if dim != dim_out:
            self.proj = nn.Linear(dim, dim_out)

    @property
    def out_size(self) -> int:
        """Side of the grid that leaves the block."""
        return self.size // 2 if self.pool else self.size

    def forward(self, x: Tensor) -> Tensor:
        """[B, size, size, dim] -> [B, out_size, out_size, dim_out]."""
        normal = self.norm1(x)
        if hasattr(self, "proj"):
            x = self.proj(normal)
            x = _pool(x) if self.pool else x
        if self.window:
            mixed = self.attn(windows_from_grid(normal, self.size, self.window))
            out_window = self.window // 2 if self.pool else self.window
            mixed = grid_from_windows(mixed, self.out_size, out_window)
        else:
            mixed = self.attn(normal)
        x = x + mixed
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class PatchEmbed(nn.Module):
    """Overlapping 7x7 patches every 4 pixels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 7, stride=4, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, S/4, S/4, dim]."""
        result: Tensor = self.proj(image).permute(0, 2, 3, 1)
        return result


class Hiera(nn.Module):
    """The trunk: four stages, sides S/4, S/8, S/16, S/32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.grid = config.image_size // 4
        self.patch_embed = PatchEmbed(dim)
        self.pos_embed = nn.Parameter(Tensor(1, dim, *config.pos_embed_size))
        self.pos_embed_window = nn.Parameter(Tensor(1, dim, WINDOW_TABLE, WINDOW_TABLE))
        nn.init.zeros_(self.pos_embed)
        nn.init.zeros_(self.pos_embed_window)
        self.blocks = nn.ModuleList(_blocks(config))
        self.stage_ends = [sum(config.stages[: i + 1]) - 1 for i in range(4)]

    def position_embedding(self) -> Tensor:
        """[1, S/4, S/4, dim]: the background table resized, plus the window table repeated."""
        size = (self.grid, self.grid)
        background = F.interpolate(self.pos_embed, size, mode="bicubic", align_corners=False)
        repeat = self.grid // WINDOW_TABLE
        tiled = self.pos_embed_window.tile(1, 1, repeat, repeat)
        return (background + tiled).permute(0, 2, 3, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, S, S] -> the four stage outputs, [B, C_i, S/4 / 2^i, S/4 / 2^i]."""
        x = self.patch_embed(image) + self.position_embedding()
        stages = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stage_ends:
                stages.append(x.permute(0, 3, 1, 2))
        return stages


def _blocks(config: ModelConfig) -> list[HieraBlock]:
    """All blocks. A stage's first block pools, and still uses the previous stage's window."""
    blocks: list[HieraBlock] = []
    size, dim, heads = config.image_size // 4, config.embed_dim, config.num_heads
    for stage, count in enumerate(config.stages):
        for index in range(count):
            pool = stage > 0 and index == 0
            window = config.window_spec[stage - 1 if pool else stage]
            if len(blocks) in config.global_att_blocks:
                window = 0
            dim_out = config.stage_dims[stage]
            heads = heads * 2 if pool else heads
            blocks.append(HieraBlock(dim, dim_out, heads, window, size, pool))
            dim, size = dim_out, blocks[-1].out_size
    return blocks


class Lateral(nn.Module):
    """The 1x1 convolution of one pyramid level."""

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x)
        return result


class Neck(nn.Module):
    """Feature pyramid: every level to C channels; the coarsest is added to the one below it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims = reversed(config.stage_dims)
        self.convs = nn.ModuleList(Lateral(dim, config.hidden_dim) for dim in dims)

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        """Trunk stages -> three levels [B, C, S/4, S/4], [B, C, S/8, S/8], [B, C, S/16, S/16]."""
        level0, level1, level2, level3 = (
            conv(stage) for conv, stage in zip(reversed(self.convs), stages, strict=True)
        )
        return [level0, level1, level2 + F.interpolate(level3, scale_factor=2.0, mode="nearest")]


class ImageEncoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.trunk = Hiera(config)
        self.neck = Neck(config)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, S, S] normalised RGB -> pyramid levels of sides S/4, S/8, S/16 (see Neck)."""
        levels: list[Tensor] = self.neck(self.trunk(image))
        return levels
