"""The exported mask decoder and mask prompt.

Against the reference: the grid's position encoding, the special tokens and the points'
frequencies are constants; key biases are dropped and value biases moved (see graph_encoder),
queries come scaled; and choosing a mask is a handful of ``where`` - no gather, no argmax, exact
in every precision. The antialiased reduction of a mask prompt is two matrix products.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.decoder import NUM_MASKS, TWO_WAY_HEADS, TwoWayAttention, TwoWayTransformer
from ..model.sam2 import ABSENT_LOGIT, MASK_BIAS, MASK_SCALE, Sam2
from .layers import GraphModule, affine, attend, out_with_value_bias, per_row, reshape, without_bias


class HeadsAttention(nn.Module):
    """TwoWayAttention with its biases moved and its queries scaled."""

    def __init__(self, attention: TwoWayAttention) -> None:
        super().__init__()
        self.head_width = attention.q_proj.out_features // TWO_WAY_HEADS
        self.q = affine(attention.q_proj, 3, self.head_width**-0.5)
        self.k = without_bias(attention.k_proj, 3)
        self.v = without_bias(attention.v_proj, 3)
        self.out = out_with_value_bias(attention.out_proj, attention.v_proj, 3)

    def _heads(self, x: Tensor) -> Tensor:
        return reshape(x, (0, -1, TWO_WAY_HEADS, self.head_width)).transpose(1, 2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = self._heads(self.q(q)), self._heads(self.k(k)), self._heads(self.v(v))
        mixed = attend(q, k, v).transpose(1, 2)
        result: Tensor = self.out(reshape(mixed, (0, -1, TWO_WAY_HEADS * self.head_width)))
        return result


def _exported_transformer(transformer: TwoWayTransformer) -> TwoWayTransformer:
    """A copy whose attentions are HeadsAttention; the blocks' own code stays the reference's."""
    exported = copy.deepcopy(transformer)
    for name, module in transformer.named_modules():
        if isinstance(module, TwoWayAttention):
            exported.set_submodule(name, HeadsAttention(module))
    return exported


class PointEncoder(nn.Module):
    """Points to tokens: one product, a sine, and one row of a table per label."""

    frequency: Tensor
    phase: Tensor
    table: Tensor
    zero: Tensor
    first_row: Tensor

    def __init__(self, model: Sam2) -> None:
        super().__init__()
        prompts, size = model.sam_prompt_encoder, model.config.image_size
        matrix = prompts.pe_layer.positional_encoding_gaussian_matrix.double() * (2 * math.pi)
        # 2 (x + 1/2) / S - 1 = x (2 / S) + (1 / S - 1), for both coordinates
        self.register_buffer("frequency", (matrix * (2 / size)).float())
        self.register_buffer("phase", (matrix.sum(0) * (1 / size - 1)).float())
        self.register_buffer("zero", torch.tensor(0.0))
        self.register_buffer("first_row", torch.tensor(1, dtype=torch.int32))
        rows = [prompts.not_a_point_embed.weight, *prompts.label_rows()]
        self.register_buffer("table", torch.cat(rows).detach())

    def forward(self, coords: Tensor, labels: Tensor) -> Tensor:
        angle = coords @ self.frequency + self.phase
        encoded = torch.cat((angle.sin(), angle.cos()), dim=-1)
        placed = torch.where((labels >= 0)[..., None], encoded, self.zero)
        return placed + self.table[labels + self.first_row]


class MaskDecoderGraph(GraphModule):
    """Graph ``mask_decoder``; shapes in ``configs.graphs``. Labels must lie in -1..3."""

    image_pe: Tensor
    special: Tensor
    no_mask: Tensor
    no_obj_ptr: Tensor
    absent: Tensor
    one: Tensor

    def __init__(self, model: Sam2) -> None:
        super().__init__(model)
        prompts, decoder = model.sam_prompt_encoder, model.sam_mask_decoder
        self.points = PointEncoder(model)
        self.mask_downscaling = prompts.mask_downscaling
        self.transformer = _exported_transformer(decoder.transformer)
        self.upscaling = decoder.output_upscaling
        self.hypernetworks = decoder.output_hypernetworks_mlps
        self.iou_head, self.score_head = decoder.iou_prediction_head, decoder.pred_obj_score_head
        self.pointer = model.obj_ptr_proj
        special = (decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens)
        tables = {
            "image_pe": prompts.dense_pe().flatten(2).transpose(1, 2),
            "special": torch.cat([token.weight for token in special])[None],
            "no_mask": prompts.no_dense(),
            "no_obj_ptr": model.no_obj_ptr,
            "absent": torch.tensor(ABSENT_LOGIT),
            "one": torch.tensor(1.0),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.detach().clone().contiguous())

    def forward(
        self,
        conditioned_embed: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        multimask_output: Tensor,
    ) -> tuple[Tensor, ...]:
        has_mask = (has_mask_input > 0)[:, None, None, None]
        dense = torch.where(has_mask, self.mask_downscaling(mask_input), self.no_mask)
        sparse = self.points(point_coords, point_labels)
        return self.decoded(
            conditioned_embed, dense, sparse, high_res_0, high_res_1, multimask_output
        )

    def decoded(
        self,
        conditioned_embed: Tensor,
        dense: Tensor,
        sparse: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        multimask: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """The graph's outputs from encoded prompts: dense [N or 1, C, h, w], sparse [N, P, C].

        multimask None: one of the three alternatives, known while exporting.
        """
        tokens = torch.cat((per_row(self.special, sparse), sparse), dim=1)
        size, width = self.config.embed_size, self.config.hidden_dim
        image = (conditioned_embed + dense).reshape(-1, width, size * size).transpose(1, 2)
        tokens, image = self.transformer(image, self.image_pe, tokens)
        score = self.score_head(tokens[:, 0])
        ious = self.iou_head(tokens[:, 1]).sigmoid()
        mask_tokens = [tokens[:, 2 + i] for i in range(NUM_MASKS)]
        logits = self._masks(image, mask_tokens, high_res_0, high_res_1)
        mask, iou, token = self._selected(logits, ious, mask_tokens, multimask)
        present = score > 0
        gated = torch.where(present[..., None, None], mask, self.absent)
        pointer = torch.where(present, self.pointer(token), self.no_obj_ptr)
        return logits, ious, gated, iou, pointer, score

    def _masks(
        self, image: Tensor, mask_tokens: list[Tensor], high_res_0: Tensor, high_res_1: Tensor
    ) -> Tensor:
        size, width = self.config.embed_size, self.config.hidden_dim
        grid = image.transpose(1, 2).reshape(-1, width, size, size)
        up1, norm, act1, up2, act2 = self.upscaling
        grid = act1(norm(up1(grid) + high_res_1))
        grid = act2(up2(grid) + high_res_0)
        pixels = grid.reshape(-1, width // 8, 16 * size * size)
        hyper = torch.stack(
            [mlp(t) for mlp, t in zip(self.hypernetworks, mask_tokens, strict=True)], dim=1
        )
        masks: Tensor = (hyper @ pixels).reshape(-1, NUM_MASKS, 4 * size, 4 * size)
        return masks

    def _selected(
        self, logits: Tensor, ious: Tensor, tokens: list[Tensor], multimask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mask, IoU and token as decoder.select_mask chooses them."""
        config = self.config
        masks, iou = torch.split(logits, 1, dim=1), torch.split(ious, 1, dim=1)
        first = iou[1] >= torch.maximum(iou[2], iou[3])
        second = iou[2] >= iou[3]

        def best(options: tuple[Tensor, ...] | list[Tensor], spread: bool = False) -> Tensor:
            is_first, is_second = (
                flag[..., None, None] if spread else flag for flag in (first, second)
            )
            return torch.where(is_first, options[1], torch.where(is_second, options[2], options[3]))

        if multimask is None:
            return best(masks, spread=True), best(iou), best(tokens)
        inner = (masks[0] > config.stability_delta).float().sum((2, 3))
        outer = (masks[0] > -config.stability_delta).float().sum((2, 3))
        # both empty counts as stable: 1 / 1
        ratio = torch.where(outer > 0, inner, self.one) / torch.maximum(outer, self.one)
        stable = ratio >= config.stability_threshold
        single = torch.logical_and(stable, torch.logical_not(multimask))
        return (
            torch.where(single[..., None, None], masks[0], best(masks, spread=True)),
            torch.where(single, iou[0], best(iou)),
            torch.where(multimask, best(tokens), tokens[0]),
        )


class MaskPromptGraph(GraphModule):
    """Graph ``mask_prompt``; shapes in ``configs.graphs``."""

    reduce: Tensor
    reduce_t: Tensor
    no_obj_ptr: Tensor

    def __init__(self, model: Sam2) -> None:
        super().__init__(model)
        size, low = self.config.image_size, self.config.mask_size
        # antialiased resizing is linear and separable: its matrix is what it does to the identity
        identity = torch.eye(size, dtype=torch.float64)[None, None]
        matrix = F.interpolate(
            identity, (low, size), mode="bilinear", align_corners=False, antialias=True
        )[0, 0]
        self.register_buffer("reduce", matrix.float().contiguous())
        self.register_buffer("reduce_t", matrix.float().t().contiguous())
        self.register_buffer("no_obj_ptr", model.no_obj_ptr.detach().clone())
        self.mask_downsample = model.mask_downsample

    def forward(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = mask * MASK_SCALE + MASK_BIAS
        low = self.reduce @ (logits @ self.reduce_t)
        score = (mask.amax((2, 3)) > 0).float() * MASK_SCALE + MASK_BIAS
        # an Identity, so that the constant is an output of its own
        return self.mask_downsample(mask), low, score, self.no_obj_ptr.clone()
