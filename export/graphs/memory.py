"""The exported memory attention and memory encoder.

Against the reference: cross-attention mixes the raw c-wide memory and one folded matrix maps
the mixture (values stay narrow: rows of attention sum to 1); rotary embedding is
``(x W) cos + (x W') sin`` with W' the projection of swapped pairs, so nothing is shuffled at
run time; queries come scaled; the first layer's self-attention runs once when all objects
share the frame's embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.memory import INPUT_POSITION, MemoryAttentionLayer, RotaryAttention
from ..model.position import sine_1d
from ..model.sam2 import MASK_BIAS, MASK_SCALE, Sam2
from .layers import (
    Affine,
    GraphModule,
    affine,
    attend,
    of_kind,
    out_with_value_bias,
    per_row,
    query_blocks,
    reshape,
    without_bias,
)


class Turn(NamedTuple):
    """Rotary tables at full width, cosine and sine of each channel's pair, [HW, C]."""

    cos: Tensor
    sin: Tensor


class ValueProjection(NamedTuple):
    """How attentions project their values; equal algebra, see ``modules.GraphVariant``."""

    #: cross-attention mixes raw memories, and the output projection does the values' work too
    fold: bool
    #: values that are projected keep their bias, instead of leaving it to the output projection
    bias: bool

    def made(self, attention: RotaryAttention) -> tuple[nn.Module, Affine]:
        """The projections of values and output of an attention that does not fold."""
        value, out = attention.v_proj, attention.out_proj
        if self.bias:
            return affine(value, 3), affine(out, 3)
        return without_bias(value, 3), out_with_value_bias(out, value, 3)


class MemoryTokens(NamedTuple):
    """What the layers attend to."""

    #: memories with their positions, [N, M, HW, c]
    keys: Tensor
    #: pointer tokens with their positions, [N, T, c]
    pointer_keys: Tensor
    #: both without positions, [N, M * HW + T, c]
    values: Tensor


def _swapped(rows: Tensor) -> Tensor:
    """Rows (2i, 2i + 1) become (-row 2i+1, row 2i): a quarter turn of each output pair."""
    even, odd = rows.reshape(rows.shape[0] // 2, 2, *rows.shape[1:]).unbind(1)
    return torch.stack((-odd, even), dim=1).flatten(0, 1)


class RotaryProjection(nn.Module):
    """A linear map whose outputs are turned by their token's place."""

    def __init__(self, linear: nn.Module, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        assert isinstance(linear, nn.Linear)
        weight, bias = linear.weight.double() * scale, linear.bias.double() * scale
        self.straight = Affine(weight, bias, rank)
        self.turned = Affine(_swapped(weight), _swapped(bias), rank)

    def forward(self, x: Tensor, turn: Turn) -> Tensor:
        result: Tensor = self.straight(x) * turn.cos + self.turned(x) * turn.sin
        return result


class SelfAttention(nn.Module):
    def __init__(
        self, attention: RotaryAttention, query_sizes: list[int], values: ValueProjection
    ) -> None:
        super().__init__()
        width = attention.q_proj.out_features
        self.query_sizes = query_sizes
        self.q = RotaryProjection(attention.q_proj, 3, width**-0.5)
        self.k = RotaryProjection(attention.k_proj, 3)
        self.v, self.out = values.made(attention)

    def forward(self, x: Tensor, turn: Turn) -> Tensor:
        q, k = self.q(x, turn), self.k(x, turn)
        result: Tensor = self.out(attend(q, k, self.v(x), self.query_sizes))
        return result


class CrossAttention(nn.Module):
    """Attention over memories; values as wide as a memory when they are folded."""

    def __init__(
        self, attention: RotaryAttention, query_sizes: list[int], values: ValueProjection
    ) -> None:
        super().__init__()
        self.width = attention.q_proj.out_features
        self.query_sizes = query_sizes
        self.q = RotaryProjection(attention.q_proj, 3, self.width**-0.5)
        self.k = RotaryProjection(attention.k_proj, 4)
        self.k_pointer = affine(attention.k_proj, 3)
        self.value, self.out = values.made(attention)
        if values.fold:
            self.value = nn.Identity()
            narrow = attention.out_proj.weight.double() @ attention.v_proj.weight.double()
            out = out_with_value_bias(attention.out_proj, attention.v_proj, 3)
            assert out.bias is not None
            self.out = Affine(narrow, out.bias.flatten(), 3)

    def forward(self, x: Tensor, memory: MemoryTokens, turn: Turn, spread: bool = False) -> Tensor:
        """Queries [N or 1, HW, C] -> [N, HW, C]; `spread` repeats them before the attention."""
        spatial = reshape(self.k(memory.keys, turn), (0, -1, self.width))
        k = torch.cat((spatial, self.k_pointer(memory.pointer_keys)), dim=1)
        values, q = self.value(memory.values), self.q(x, turn)
        if spread:
            q = per_row(q, k)
        result: Tensor = self.out(attend(q, k, values, self.query_sizes))
        return result


class AttentionLayer(nn.Module):
    def __init__(
        self, layer: MemoryAttentionLayer, query_sizes: list[int], values: ValueProjection
    ) -> None:
        super().__init__()
        self.self_attn = SelfAttention(layer.self_attn, query_sizes, values)
        self.cross_attn = CrossAttention(layer.cross_attn_image, query_sizes, values)
        self.norm1, self.norm2, self.norm3 = layer.norm1, layer.norm2, layer.norm3
        self.up, self.down = affine(layer.linear1, 3), affine(layer.linear2, 3)

    def forward(
        self,
        x: Tensor,
        memory: MemoryTokens | None,
        turn: Turn,
        begun: bool = False,
        spread: bool = False,
    ) -> Tensor:
        """A layer; without memory its first half alone, and after that (`begun`) the rest.

        `spread`: the frame's tokens may be shared by all objects, and are repeated for each.
        """
        if not begun:
            x = x + self.self_attn(self.norm1(x), turn)
        if memory is None:
            return x
        x = x + self.cross_attn(self.norm2(x), memory, turn, spread)
        result: Tensor = x + self.down(F.relu(self.up(self.norm3(x))))
        return result


class MemoryAttentionGraph(GraphModule):
    """Graph ``memory_attention``; shapes in ``configs.graphs``."""

    position: Tensor
    memory_position: Tensor
    time_table: Tensor
    wavelength: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        model: Sam2,
        query_block: int | None,
        values: ValueProjection,
        queries_per_object: bool = False,
    ) -> None:
        super().__init__(model)
        self.queries_per_object = queries_per_object
        attention, config = model.memory_attention, model.config
        query_sizes = query_blocks(config.embed_size**2, query_block)
        layers = of_kind(attention.layers, MemoryAttentionLayer)
        self.layers = nn.ModuleList(AttentionLayer(layer, query_sizes, values) for layer in layers)
        self.norm = attention.norm
        rotary = layers[0].self_attn
        tables = {
            "position": INPUT_POSITION * attention.position.flatten(2),
            "memory_position": model.memory_position.flatten(2).transpose(1, 2)[:, None],
            "time_table": model.maskmem_tpos_enc.reshape(config.num_maskmem, 1, -1),
            "cos": rotary.cos.repeat_interleave(2, dim=1),
            "sin": rotary.sin.repeat_interleave(2, dim=1),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.detach().clone().contiguous())
        has_time = config.family == "2.1"
        self.pointer_time = affine(model.obj_ptr_tpos_proj, 3) if has_time else None

    def forward(
        self,
        image_embed: Tensor,
        memory: Tensor,
        memory_tpos: Tensor,
        obj_ptrs: Tensor,
        obj_ptr_pos: Tensor,
        frame_tokens: Tensor | None = None,
    ) -> Tensor:
        """`frame_tokens`: what :meth:`begin` gave for image_embed, where that was done before."""
        config, area = self.config, self.config.embed_size**2
        frames = reshape(memory, (0, -1, config.mem_dim, area)).transpose(2, 3)
        keys = frames + (self.memory_position + self.time_table[memory_tpos])
        # a pointer's slices may stand in any order: attention has none
        pointers = torch.cat(torch.split(obj_ptrs, config.mem_dim, dim=2), dim=1)
        pointer_keys = pointers
        if self.pointer_time is not None:
            time = self.pointer_time(sine_1d(obj_ptr_pos, config.hidden_dim))
            pointer_keys = pointers + torch.cat([time] * config.pointer_tokens, dim=1)
        values = torch.cat((reshape(frames, (0, -1, config.mem_dim)), pointers), dim=1)
        tokens, turn = MemoryTokens(keys, pointer_keys, values), Turn(self.cos, self.sin)
        x = self._tokens(image_embed) if frame_tokens is None else frame_tokens
        for index, layer in enumerate(self.layers):
            begun = index == 0 and frame_tokens is not None
            # what a layer has added is each object's own
            x = layer(x, tokens, turn, begun, spread=index == 0 and self.queries_per_object)
        grid = (-1, config.hidden_dim, config.embed_size, config.embed_size)
        result: Tensor = self.norm(x).transpose(1, 2).reshape(grid)
        return result

    def begin(self, image_embed: Tensor) -> Tensor:
        """What all objects share: tokens [I, hw, C] after the first layer's self-attention."""
        tokens: Tensor = self.layers[0](self._tokens(image_embed), None, Turn(self.cos, self.sin))
        return tokens

    def _tokens(self, image_embed: Tensor) -> Tensor:
        flat = image_embed.reshape(-1, self.config.hidden_dim, self.config.embed_size**2)
        return (flat + self.position).transpose(1, 2)


class MemoryEncoderGraph(GraphModule):
    """Graph ``memory_encoder``; shapes in ``configs.graphs``."""

    absent: Tensor | None

    def __init__(self, model: Sam2) -> None:
        super().__init__(model)
        self.encoder = model.memory_encoder
        absent = None
        if model.config.family == "2.1":
            absent = model.no_obj_embed_spatial.detach().reshape(1, -1, 1, 1).clone()
        self.register_buffer("absent", absent)

    def forward(
        self, image_embed: Tensor, mask_logits: Tensor, object_score: Tensor, binarize: Tensor
    ) -> Tensor:
        logits = F.interpolate(mask_logits, scale_factor=4.0, mode="bilinear", align_corners=False)
        mask = torch.where(binarize, (logits > 0).float(), logits.sigmoid())
        memory: Tensor = self.encoder(image_embed, mask * MASK_SCALE + MASK_BIAS)
        if self.absent is not None:
            gone = (object_score <= 0).float()[..., None, None]
            memory = memory + gone * self.absent
        return memory
