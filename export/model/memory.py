"""Memory attention and memory encoder (SAM 2, arXiv 2408.00714, section 4 and appendix D.1)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...configs.models import ModelConfig
from .layers import LayerNorm2d
from .position import rotary_table, rotate_pairs, sine_grid

#: share of the position encoding that is added to the frame's embedding
INPUT_POSITION = 0.1
#: channels of the mask downsampler: a factor 4 per halving of the side
MASK_CHANNELS = (1, 4, 16, 64, 256)


class RotaryAttention(nn.Module):
    """Attention with one head; queries and spatial keys are turned by their place."""

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, kv_dim: int, size: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(kv_dim, dim)
        self.v_proj = nn.Linear(kv_dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        cos, sin = rotary_table(dim, size)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, extra: int = 0) -> Tensor:
        """Queries [N, HW, dim]; keys and values [N, M * HW + extra, kv_dim] -> [N, HW, dim].

        The last `extra` keys have no place and are not turned.
        """
        q = rotate_pairs(self.q_proj(q), self.cos, self.sin)
        k = self.k_proj(k)
        spatial, rest = k[:, : k.shape[1] - extra], k[:, k.shape[1] - extra :]
        frames = spatial.reshape(k.shape[0], -1, self.cos.shape[0], k.shape[2])
        k = torch.cat((rotate_pairs(frames, self.cos, self.sin).flatten(1, 2), rest), dim=1)
        q, k, v = (x[:, None] for x in (q, k, self.v_proj(v)))
        result: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, v)[:, 0])
        return result


class MemoryAttentionLayer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.hidden_dim
        self.self_attn = RotaryAttention(c, c, config.embed_size)
        self.cross_attn_image = RotaryAttention(c, config.mem_dim, config.embed_size)
        self.linear1 = nn.Linear(c, config.memory_attention_ffn)
        self.linear2 = nn.Linear(config.memory_attention_ffn, c)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(c) for _ in range(3))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, extra: int) -> Tensor:
        normal = self.norm1(x)
        x = x + self.self_attn(normal, normal, normal)
        x = x + self.cross_attn_image(self.norm2(x), keys, values, extra)
        result: Tensor = x + self.linear2(F.relu(self.linear1(self.norm3(x))))
        return result


class MemoryAttention(nn.Module):
    position: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        count = config.memory_attention_layers
        self.layers = nn.ModuleList(MemoryAttentionLayer(config) for _ in range(count))
        self.norm = nn.LayerNorm(config.hidden_dim)
        position = sine_grid(config.hidden_dim, config.embed_size)
        self.register_buffer("position", position, persistent=False)

    def forward(self, embed: Tensor, memory: Tensor, memory_pos: Tensor, extra: int) -> Tensor:
        """Condition a frame on memory tokens.

        embed [N, C, h, w]; memory and memory_pos [N, M * hw + extra, c], the last `extra`
        tokens being those of object pointers. Returns [N, C, h, w]. Positions enter keys only.
        """
        x = (embed + INPUT_POSITION * self.position).flatten(2).transpose(1, 2)
        keys = memory + memory_pos
        for layer in self.layers:
            x = layer(x, keys, memory, extra)
        result: Tensor = self.norm(x).transpose(1, 2).reshape(embed.shape)
        return result


class MaskDownsampler(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(MASK_CHANNELS):
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1)
            layers += [conv, LayerNorm2d(after), nn.GELU()]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(MASK_CHANNELS[-1], dim, 1))

    def forward(self, mask: Tensor) -> Tensor:
        """[N, 1, S, S] -> [N, dim, h, w]."""
        result: Tensor = self.encoder(mask)
        return result


class FuserBlock(nn.Module):
    """A ConvNeXt block (arXiv 2201.03545, section 2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        result: Tensor = x + y.permute(0, 3, 1, 2)
        return result


class Fuser(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FuserBlock(dim) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.hidden_dim
        self.mask_downsampler = MaskDownsampler(c)
        self.pix_feat_proj = nn.Conv2d(c, c, 1)
        self.fuser = Fuser(c)
        self.out_proj = nn.Conv2d(c, config.mem_dim, 1)

    def forward(self, embed: Tensor, mask: Tensor) -> Tensor:
        """Raw embedding [N or 1, C, h, w] and scaled mask [N, 1, S, S] -> [N, c, h, w]."""
        fused = self.fuser(self.pix_feat_proj(embed) + self.mask_downsampler(mask))
        result: Tensor = self.out_proj(fused)
        return result
