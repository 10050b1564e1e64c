"""Prompt encoder and mask decoder (SAM, arXiv 2304.02643, appendix A; SAM 2, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...configs.models import ModelConfig
from .layers import LayerNorm2d, Mlp
from .position import RandomFourier

#: masks predicted per prompt: the single-mask output and three alternatives
NUM_MASKS = 4
#: numbers the original writes into its code, whatever the width
TWO_WAY_LAYERS, TWO_WAY_HEADS, TWO_WAY_MLP, IOU_HIDDEN = 2, 8, 2048, 256


class PromptEncoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.hidden_dim
        self.image_size, self.embed_size = config.image_size, config.embed_size
        self.pe_layer = RandomFourier(c)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, c) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, c)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, c, 1),
        )
        self.no_mask_embed = nn.Embedding(1, c)

    def label_rows(self) -> list[Tensor]:
        """What labels 0, 1, 2, 3 add to a point's encoding, each [1, C]."""
        return [row for embedding in self.point_embeddings for row in embedding.parameters()]

    def sparse(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Points [N, P, 2] in S-pixels and labels [N, P] int -> [N, P, C].

        Labels: -1 padding, 0 negative, 1 positive, 2 and 3 box corners. A padding point has no
        position. No padding is added: that is the caller's part.
        """
        encoded = self.pe_layer((coords + 0.5) / self.image_size)
        label = labels[..., None]
        encoded = torch.where(label == -1, self.not_a_point_embed.weight, encoded)
        for kind, row in enumerate(self.label_rows()):
            encoded = encoded + torch.where(label == kind, row, 0.0)
        return encoded

    def dense(self, mask_input: Tensor) -> Tensor:
        """Mask prompt logits [N, 1, 4h, 4w] -> [N, C, h, w]."""
        result: Tensor = self.mask_downscaling(mask_input)
        return result

    def no_dense(self) -> Tensor:
        """What stands for an absent mask prompt, [1, C, 1, 1]."""
        return self.no_mask_embed.weight[..., None, None]

    def dense_pe(self) -> Tensor:
        """Position encoding of the embedding's grid, [1, C, h, w]."""
        return self.pe_layer.grid(self.embed_size)


class TwoWayAttention(nn.Module):
    """Multi-head attention whose inner width may be half of the tokens'."""

    def __init__(self, dim: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries [N, Q, C], keys and values [N, L, C] -> [N, Q, C]."""
        q, k, v = (
            x.unflatten(-1, (TWO_WAY_HEADS, -1)).transpose(1, 2)
            for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        result: Tensor = self.out_proj(mixed)
        return result


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the image; then the image attends to the tokens."""

    def __init__(self, dim: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = TwoWayAttention(dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = TwoWayAttention(dim, 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp((dim, TWO_WAY_MLP, dim), F.relu)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = TwoWayAttention(dim, 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens [N, T, C] and image [N, HW, C] with their encodings -> both, updated."""
        if self.first:
            # the first layer's attention replaces the tokens: no encoding, no residual
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            with_pe = tokens + token_pe
            tokens = tokens + self.self_attn(with_pe, with_pe, tokens)
        tokens = self.norm1(tokens)
        keys = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, keys, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(keys, tokens + token_pe, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, i == 0) for i in range(TWO_WAY_LAYERS))
        self.final_attn_token_to_image = TwoWayAttention(dim, 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image and its encoding [N or 1, HW, C], tokens [N, T, C] -> tokens, image."""
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        mixed = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + mixed), image


class DecoderOutput(NamedTuple):
    """What the decoder says about one prompt per object, nothing selected and nothing gated."""

    #: [N, 4, 4h, 4w]: the single-mask output, then three alternatives
    mask_logits: Tensor
    #: [N, 4] in (0, 1)
    ious: Tensor
    #: [N, 4, C], the tokens object pointers are made of
    mask_tokens: Tensor
    #: [N, 1] logit
    object_score: Tensor


class MaskDecoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.hidden_dim
        self.transformer = TwoWayTransformer(c)
        self.iou_token = nn.Embedding(1, c)
        self.mask_tokens = nn.Embedding(NUM_MASKS, c)
        self.obj_score_token = nn.Embedding(1, c)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(c, c // 4, 2, stride=2),
            LayerNorm2d(c // 4),
            nn.GELU(),
            nn.ConvTranspose2d(c // 4, c // 8, 2, stride=2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(c, c // 8, 1)
        self.conv_s1 = nn.Conv2d(c, c // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp((c, c, c, c // 8), F.relu) for _ in range(NUM_MASKS)
        )
        self.iou_prediction_head = Mlp((c, IOU_HIDDEN, IOU_HIDDEN, NUM_MASKS), F.relu)
        self.pred_obj_score_head = Mlp((c, c, c, 1), F.relu)

    def forward(
        self,
        embed: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
    ) -> DecoderOutput:
        """Predict four masks per object.

        embed [N, C, h, w]; image_pe [1, C, h, w]; sparse [N, P, C]; dense [N or 1, C, h or 1,
        w or 1]; high_res_0 [N or 1, C/8, 4h, 4w]; high_res_1 [N or 1, C/4, 2h, 2w].
        """
        special = (self.obj_score_token, self.iou_token, self.mask_tokens)
        fixed = torch.cat([token.weight for token in special])
        tokens = torch.cat((fixed.expand(sparse.shape[0], -1, -1), sparse), dim=1)
        image = embed + dense
        tokens, mixed = self.transformer(
            image.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2), tokens
        )
        mask_tokens = tokens[:, 2 : 2 + NUM_MASKS]
        upscaled = self._upscale(mixed.transpose(1, 2).reshape(image.shape), high_res_0, high_res_1)
        hyper = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = (hyper @ upscaled.flatten(2)).reshape(-1, NUM_MASKS, *upscaled.shape[2:])
        ious = self.iou_prediction_head(tokens[:, 1]).sigmoid()
        return DecoderOutput(logits, ious, mask_tokens, self.pred_obj_score_head(tokens[:, 0]))

    def _upscale(self, image: Tensor, high_res_0: Tensor, high_res_1: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C/8, 4h, 4w]."""
        up1, norm, act1, up2, act2 = self.output_upscaling
        image = act1(norm(up1(image) + high_res_1))
        result: Tensor = act2(up2(image) + high_res_0)
        return result


def stability(mask_logits: Tensor, delta: float) -> Tensor:
    """Area above +delta over area above -delta of [N, H, W] logits, [N]; 1 where both are empty.

    SAM, arXiv 2304.02643, appendix B ("stability score").
    """
    inner = (mask_logits > delta).flatten(1).sum(1).to(mask_logits)
    outer = (mask_logits > -delta).flatten(1).sum(1).to(mask_logits)
    return torch.where(outer > 0, inner / outer.clamp(min=1), 1.0)


class SelectedMask(NamedTuple):
    """The mask chosen per object."""

    #: [N, 1, 4h, 4w]
    mask_logits: Tensor
    #: [N, 1]
    iou: Tensor
    #: [N, C], the token of the pointer
    token: Tensor


def select_mask(
    output: DecoderOutput, multimask: Tensor, delta: float, threshold: float
) -> SelectedMask:
    """Choose one mask per object as the original does for tracking.

    `multimask` [1] bool. True: the alternative with the highest predicted IoU, and its token.
    False: the single-mask output, or that alternative when the single mask is unstable; the
    token is the single mask's in both cases.
    """
    rows = torch.arange(output.ious.shape[0], device=output.ious.device)
    best = output.ious[:, 1:].argmax(1) + 1
    stable = stability(output.mask_logits[:, 0], delta) >= threshold
    zero = torch.zeros_like(best)
    chosen = torch.where(stable & ~multimask, zero, best)
    token = torch.where(multimask, best, zero)
    return SelectedMask(
        output.mask_logits[rows, chosen][:, None],
        output.ious[rows, chosen][:, None],
        output.mask_tokens[rows, token],
    )
