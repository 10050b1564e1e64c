"""The exported image encoder.

Against the reference: the two fine pyramid levels and conv_s0 / conv_s1 are one matrix each
(linear after linear, no top-down addition there); position embeddings are one constant; key
biases are dropped (they add the same number to every score of a query) and value biases move
behind the attention; padding happens after the projections, where it costs no product.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..model.hiera import HieraBlock, Lateral
from ..model.sam2 import Sam2
from .layers import (
    Affine,
    GraphModule,
    affine,
    attend,
    of_kind,
    out_with_value_bias,
    pad_grid,
    query_blocks,
)


def _halved(x: Tensor, size: int, width: int) -> Tensor:
    """Maximum over 2x2 cells of [B, size, size, width]."""
    half = size // 2
    return x.reshape(-1, half, 2, half, 2, width).amax(2).amax(3)


class EncoderBlock(nn.Module):
    """One Hiera block on [B, size, size, C]."""

    def __init__(self, block: HieraBlock, query_block: int | None) -> None:
        super().__init__()
        attn = block.attn
        self.size, self.out_size, self.pool = block.size, block.out_size, block.pool
        self.window = block.window or block.size
        self.heads = attn.heads
        out_window = self.window // 2 if block.pool else self.window
        self.out_window = out_window
        self.query_sizes = query_blocks(out_window * out_window, query_block)
        q, k, v = (part.detach() for part in attn.qkv.weight.double().chunk(3))
        q_bias, _, v_bias = (part.detach() for part in attn.qkv.bias.double().chunk(3))
        self.width = attn.proj.out_features
        self.head_width = self.width // attn.heads
        scale = self.head_width**-0.5
        self.q = Affine(q * scale, q_bias * scale, 4)
        self.k = Affine(k, None, 4)
        self.v = Affine(v, None, 4)
        value = nn.Linear(v.shape[1], v.shape[0])
        value.weight.data, value.bias.data = v, v_bias
        self.out = out_with_value_bias(attn.proj, value, 4)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.skip = affine(block.proj, 4) if hasattr(block, "proj") else None
        self.up, self.down = (affine(layer, 4) for layer in block.mlp.layers)

    def _split(self, x: Tensor, size: int, window: int) -> Tensor:
        """[B, size, size, D] -> [B * windows, heads, window ** 2, D / heads], zero-padded."""
        count = -(-size // window)
        pad = count * window - size
        if pad:
            x = pad_grid(x, pad)
        x = x.reshape(-1, count, window, count, window, self.heads, self.head_width)
        x = x.permute(0, 1, 3, 5, 2, 4, 6)
        return x.reshape(-1, self.heads, window * window, self.head_width)

    def _join(self, x: Tensor, size: int, window: int) -> Tensor:
        """Inverse of :meth:`_split`; padding is cut off."""
        count = -(-size // window)
        x = x.reshape(-1, count, count, self.heads, window, window, self.head_width)
        x = x.permute(0, 1, 4, 2, 5, 3, 6)
        x = x.reshape(-1, count * window, count * window, self.width)
        return x[:, :size, :size] if count * window != size else x

    def _projected(self, affine: Affine, x: Tensor) -> Tensor:
        """A projection, pooled where the block pools: before the bias, as a maximum may be."""
        product = x @ affine.matrix
        if self.pool:
            product = _halved(product, self.size, self.width)
        return product if affine.bias is None else product + affine.bias

    def _shortcut(self, x: Tensor, normal: Tensor) -> Tensor:
        return x if self.skip is None else self._projected(self.skip, normal)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm1(x)
        q, x = self._projected(self.q, normal), self._shortcut(x, normal)
        mixed = attend(
            self._split(q, self.out_size, self.out_window),
            self._split(self.k(normal), self.size, self.window),
            self._split(self.v(normal), self.size, self.window),
            self.query_sizes,
        )
        x = x + self.out(self._join(mixed, self.out_size, self.out_window))
        result: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return result


class ChannelsFirst(nn.Module):
    """A 1x1 convolution from [B, s, s, D] to [B, C, s, s]: matrix @ tokens^T, no transpose."""

    matrix: Tensor
    bias: Tensor

    def __init__(self, size: int, *convs: nn.Conv2d) -> None:
        """The convolutions are applied one after another, folded into one matrix."""
        super().__init__()
        self.size = size
        weights = [conv.weight.detach().double().flatten(1) for conv in convs]
        biases = [conv.bias.detach().double() for conv in convs if conv.bias is not None]
        matrix, bias = weights[0], biases[0]
        for weight, shift in zip(weights[1:], biases[1:], strict=True):
            matrix, bias = weight @ matrix, weight @ bias + shift
        self.width, self.out_width = matrix.shape[1], matrix.shape[0]
        self.register_buffer("matrix", matrix.float())
        self.register_buffer("bias", bias.float().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, self.size * self.size, self.width)
        product = self.matrix @ tokens.transpose(1, 2)
        return product.reshape(-1, self.out_width, self.size, self.size) + self.bias


class ImageEncoderGraph(GraphModule):
    """Graph ``image_encoder``; shapes in ``configs.graphs``."""

    position: Tensor
    no_memory: Tensor

    def __init__(self, model: Sam2, query_block: int | None) -> None:
        super().__init__(model)
        trunk, decoder = model.image_encoder.trunk, model.sam_mask_decoder
        patch = trunk.patch_embed.proj
        self.patch = nn.Conv2d(3, patch.out_channels, 7, stride=4, padding=3, bias=False)
        self.patch.weight = patch.weight
        assert patch.bias is not None
        position = trunk.position_embedding() + patch.bias
        self.register_buffer("position", position.detach().contiguous())
        self.blocks = nn.ModuleList(
            EncoderBlock(block, query_block) for block in of_kind(trunk.blocks, HieraBlock)
        )
        self.stage_ends = trunk.stage_ends
        laterals = [level.conv for level in of_kind(model.image_encoder.neck.convs, Lateral)][::-1]
        size = self.config.embed_size
        self.level0 = ChannelsFirst(4 * size, laterals[0], decoder.conv_s0)
        self.level1 = ChannelsFirst(2 * size, laterals[1], decoder.conv_s1)
        self.level2 = ChannelsFirst(size, laterals[2])
        self.level3 = ChannelsFirst(size // 2, laterals[3])
        no_memory = model.no_mem_embed.detach().reshape(1, -1, 1, 1).clone()
        self.register_buffer("no_memory", no_memory)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.patch(image).permute(0, 2, 3, 1) + self.position
        stages = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stage_ends:
                stages.append(x)
        coarse = F.interpolate(self.level3(stages[3]), scale_factor=2.0, mode="nearest")
        embed = self.level2(stages[2]) + coarse
        return embed, embed + self.no_memory, self.level0(stages[0]), self.level1(stages[1])
