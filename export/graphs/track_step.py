"""A frame without prompts as one graph: memory attention, mask decoder, memory encoder.

The decoder's prompts are constants there (one empty point and its padding, no mask, several
masks asked for), so the prompt encoder folds away, and nothing passes through the host between
the stages.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.sam2 import Sam2, empty_prompt
from .decoder import MaskDecoderGraph
from .layers import GraphModule, per_row
from .memory import MemoryAttentionGraph, MemoryEncoderGraph


class TrackStepGraph(GraphModule):
    """Graph ``track_step``; shapes in ``configs.graphs``."""

    no_points: Tensor
    no_binarize: Tensor

    def __init__(
        self,
        model: Sam2,
        attention: MemoryAttentionGraph,
        decoder: MaskDecoderGraph,
        encoder: MemoryEncoderGraph,
    ) -> None:
        super().__init__(model)
        self.attention, self.decoder, self.encoder = attention, decoder, encoder
        self.register_buffer("no_points", decoder.points(*empty_prompt(1)))
        self.register_buffer("no_binarize", torch.tensor([False]))

    def forward(
        self,
        image_embed: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        memory: Tensor,
        memory_tpos: Tensor,
        obj_ptrs: Tensor,
        obj_ptr_pos: Tensor,
        frame_tokens: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        embed = self.attention(
            image_embed, memory, memory_tpos, obj_ptrs, obj_ptr_pos, frame_tokens
        )
        sparse = per_row(self.no_points, embed)
        decoded = self.decoder.decoded(
            embed, self.decoder.no_mask, sparse, high_res_0, high_res_1, multimask=None
        )
        _, ious, gated, iou, pointer, score = decoded
        new_memory = self.encoder(image_embed, gated, score, self.no_binarize)
        return gated, iou, pointer, score, ious, new_memory


class TrackFrameGraph(GraphModule):
    """Graph ``track_step.frame``; shapes in ``configs.graphs``."""

    def __init__(self, model: Sam2, attention: MemoryAttentionGraph) -> None:
        super().__init__(model)
        self.attention = attention

    def forward(self, image_embed: Tensor) -> Tensor:
        return self.attention.begin(image_embed)


class TrackObjectGraph(GraphModule):
    """Graph ``track_step.object``; shapes in ``configs.graphs``."""

    def __init__(self, model: Sam2, step: TrackStepGraph) -> None:
        super().__init__(model)
        self.step = step

    def forward(self, frame_tokens: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = self.step(*inputs, frame_tokens)
        return result
