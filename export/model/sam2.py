"""The reference model: SAM 2 in torch, plain and unfused.

``build_model(config: ModelConfig) -> Sam2`` gives an ``nn.Module`` in eval mode whose
state-dict keys are the original's, so ``model.load_state_dict(state, strict=True)`` takes a
released checkpoint. Weights are not loaded here. Six methods of :class:`Sam2` are the six graphs
of ``configs.graphs`` with their exact semantics, as differentiable functions of tensors
(``reference.METHODS`` says which is which); the pieces below them (``image_encoder``,
``sam_prompt_encoder``, ``sam_mask_decoder``, ``memory_attention``, ``memory_encoder``) serve
training.

What is exported is ``graphs.graph_modules(model)``: the same functions, rewritten by exact
algebra. It is compared with ``reference.ReferenceSession(model)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...configs.models import ModelConfig
from .decoder import DecoderOutput, MaskDecoder, PromptEncoder, select_mask
from .hiera import ImageEncoder
from .layers import Mlp
from .memory import MemoryAttention, MemoryEncoder
from .position import sine_1d, sine_grid

#: low-resolution logits of an object that is absent
ABSENT_LOGIT = -1024.0
#: a mask in [0, 1] becomes logits in [-10, 10], for the memory encoder and for mask prompts
MASK_SCALE, MASK_BIAS = 20.0, -10.0


class ImageFeatures(NamedTuple):
    #: [B, C, h, w], what memory attention and memory encoder take
    image_embed: Tensor
    #: [B, C, h, w], what the decoder takes on a frame without memory
    prompt_embed: Tensor
    #: [B, C/8, 4h, 4w]
    high_res_0: Tensor
    #: [B, C/4, 2h, 2w]
    high_res_1: Tensor


class DecodedMasks(NamedTuple):
    """Outputs of the graph ``mask_decoder``, in its order."""

    all_mask_logits: Tensor
    all_ious: Tensor
    mask_logits: Tensor
    iou: Tensor
    obj_ptr: Tensor
    object_score: Tensor


class PreparedMask(NamedTuple):
    """Outputs of the graph ``mask_prompt``, in its order."""

    mask_input: Tensor
    mask_logits: Tensor
    object_score: Tensor
    no_obj_ptr: Tensor


class Sam2(nn.Module):
    memory_position: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c, m = config.hidden_dim, config.mem_dim
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.num_maskmem, 1, 1, m))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, c))
        # unused by every released model, but present in every checkpoint
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, c))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, c))
        self.image_encoder = ImageEncoder(config)
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.memory_attention = MemoryAttention(config)
        self.memory_encoder = MemoryEncoder(config)
        self.sam_prompt_encoder = PromptEncoder(config)
        self.sam_mask_decoder = MaskDecoder(config)
        self.obj_ptr_proj = Mlp((c, c, c, c), F.relu)
        if config.family == "2.1":
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, m))
            self.obj_ptr_tpos_proj = nn.Linear(c, m)
        self.register_buffer("memory_position", sine_grid(m, config.embed_size), persistent=False)

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """Normalised RGB [B, 3, S, S] -> features; the graph ``image_encoder``."""
        level0, level1, level2 = self.image_encoder(image)
        return ImageFeatures(
            level2,
            level2 + self.no_mem_embed.reshape(1, -1, 1, 1),
            self.sam_mask_decoder.conv_s0(level0),
            self.sam_mask_decoder.conv_s1(level1),
        )

    def attend_memory(
        self,
        image_embed: Tensor,
        memory: Tensor,
        memory_tpos: Tensor,
        obj_ptrs: Tensor,
        obj_ptr_pos: Tensor,
    ) -> Tensor:
        """Condition a frame on its memories; the graph ``memory_attention``.

        image_embed [N or 1, C, h, w]; memory [N, M, c, h, w]; memory_tpos [N, M] int64, row of
        the temporal table (6 for a prompted frame, 0 for the previous one); obj_ptrs [N, K, C];
        obj_ptr_pos [N, K], signed frame distance / (largest number of pointers - 1).
        Returns [N, C, h, w].
        """
        time = self.maskmem_tpos_enc[memory_tpos].flatten(2)  # [N, M, c]
        spatial_pos = self.memory_position[:, None] + time[..., None, None]
        pointers, pointer_pos = self.pointer_tokens(obj_ptrs, obj_ptr_pos)
        tokens, positions = (
            torch.cat((spatial.permute(0, 1, 3, 4, 2).flatten(1, 3), ptr), dim=1)
            for spatial, ptr in ((memory, pointers), (spatial_pos, pointer_pos))
        )
        embed = image_embed.expand(memory.shape[0], -1, -1, -1)
        result: Tensor = self.memory_attention(embed, tokens, positions, pointers.shape[1])
        return result

    def pointer_tokens(self, obj_ptrs: Tensor, obj_ptr_pos: Tensor) -> tuple[Tensor, Tensor]:
        """Pointers [N, K, C] at distances [N, K] -> tokens and their positions, [N, K * C/c, c].

        A pointer is cut into C/c consecutive slices that share one position: the projected sine
        encoding of the distance in 2.1, zero in 2.0.
        """
        config = self.config
        objects, pointers, _ = obj_ptrs.shape
        tokens = obj_ptrs.reshape(objects, pointers * config.pointer_tokens, config.mem_dim)
        if config.family == "2.0":
            return tokens, torch.zeros_like(tokens)
        position = self.obj_ptr_tpos_proj(sine_1d(obj_ptr_pos, config.hidden_dim))
        return tokens, position.repeat_interleave(config.pointer_tokens, dim=1)

    def predict_masks(
        self,
        embed: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> DecoderOutput:
        """Prompt encoder and mask decoder: four masks per object, ungated (for training too).

        Shapes as for :meth:`decode`.
        """
        encoder = self.sam_prompt_encoder
        has_mask = has_mask_input.reshape(-1, 1, 1, 1) > 0
        dense = torch.where(has_mask, encoder.dense(mask_input), encoder.no_dense())
        sparse = encoder.sparse(point_coords, point_labels)
        output: DecoderOutput = self.sam_mask_decoder(
            embed, encoder.dense_pe(), sparse, dense, high_res_0, high_res_1
        )
        return output

    def decode(
        self,
        conditioned_embed: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        multimask_output: Tensor,
    ) -> DecodedMasks:
        """Masks from prompts; the graph ``mask_decoder``.

        conditioned_embed [N, C, h, w]; high_res_0 [1 or N, C/8, 4h, 4w]; high_res_1 [1 or N,
        C/4, 2h, 2w]; point_coords [N, P, 2] in S-pixels; point_labels [N, P] int32 (-1 padding,
        0 negative, 1 positive, 2 and 3 box corners; no padding point is added); mask_input
        [N, 1, 4h, 4w] logits; has_mask_input [N], above 0 where mask_input counts;
        multimask_output [1] bool.

        The first two results hold all four masks, untouched. The others are for tracking: one
        mask chosen, -1024 everywhere and the no-object pointer where object_score <= 0. The IoU
        is never gated.
        """
        output = self.predict_masks(
            conditioned_embed,
            high_res_0,
            high_res_1,
            point_coords,
            point_labels,
            mask_input,
            has_mask_input,
        )
        config = self.config
        chosen = select_mask(
            output, multimask_output, config.stability_delta, config.stability_threshold
        )
        present = output.object_score > 0
        pointer = self.obj_ptr_proj(chosen.token)
        return DecodedMasks(
            output.mask_logits,
            output.ious,
            torch.where(present[..., None, None], chosen.mask_logits, ABSENT_LOGIT),
            chosen.iou,
            torch.where(present, pointer, self.no_obj_ptr),
            output.object_score,
        )

    def prompt_from_mask(self, mask: Tensor) -> PreparedMask:
        """A mask [N, 1, S, S] of zeros and ones as a prompt; the graph ``mask_prompt``.

        mask_input [N, 1, 4h, 4w] goes to the decoder, which makes the pointer; mask_logits
        [N, 1, 4h, 4w] is the frame's result, reduced with antialiasing from logits of +-10;
        object_score [N, 1] is 10, or -10 for an empty mask.
        """
        size = (self.config.mask_size, self.config.mask_size)
        logits = mask * MASK_SCALE + MASK_BIAS
        low = F.interpolate(logits, size, mode="bilinear", align_corners=False, antialias=True)
        present = mask.flatten(1).amax(1, keepdim=True) > 0
        score = present.to(mask) * MASK_SCALE + MASK_BIAS
        return PreparedMask(self.mask_downsample(mask), low, score, self.no_obj_ptr)

    def encode_memory(
        self, image_embed: Tensor, mask_logits: Tensor, object_score: Tensor, binarize: Tensor
    ) -> Tensor:
        """A result as a memory; the graph ``memory_encoder``.

        image_embed [N or 1, C, h, w], raw; mask_logits [N, 1, 4h, 4w]; object_score [N, 1];
        binarize [1] bool, True for prompted frames. Returns [N, c, h, w].
        """
        size = (self.config.image_size, self.config.image_size)
        logits = F.interpolate(mask_logits, size, mode="bilinear", align_corners=False)
        mask = torch.where(binarize, (logits > 0).to(logits), logits.sigmoid())
        memory: Tensor = self.memory_encoder(image_embed, mask * MASK_SCALE + MASK_BIAS)
        if self.config.family == "2.1":
            absent = (object_score <= 0)[..., None, None]
            memory = memory + torch.where(absent, self.no_obj_embed_spatial[..., None, None], 0.0)
        return memory

    def track_step(
        self,
        image_embed: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        memory: Tensor,
        memory_tpos: Tensor,
        obj_ptrs: Tensor,
        obj_ptr_pos: Tensor,
    ) -> tuple[Tensor, ...]:
        """Track one frame without prompts; the graph ``track_step``.

        Inputs as for :meth:`attend_memory` and :meth:`decode`. Returns mask_logits, iou, obj_ptr,
        object_score and all_ious as :meth:`decode` does, and new_memory [N, c, h, w].
        """
        embed = self.attend_memory(image_embed, memory, memory_tpos, obj_ptrs, obj_ptr_pos)
        side = self.config.mask_size
        blank = embed.new_zeros(len(embed), 1, side, side)
        decoded = self.decode(
            embed,
            high_res_0,
            high_res_1,
            *empty_prompt(len(embed)),
            blank,
            embed.new_zeros(len(embed)),
            torch.tensor([True]),
        )
        _, ious, mask, iou, pointer, score = decoded
        memory = self.encode_memory(image_embed, mask, score, torch.tensor([False]))
        return mask, iou, pointer, score, ious, memory


def empty_prompt(objects: int) -> tuple[Tensor, Tensor]:
    """What a tracked frame is decoded with: an empty point and the padding point, [N, 2, 2]."""
    return torch.zeros(objects, 2, 2), torch.full((objects, 2), -1, dtype=torch.int32)


def build_model(config: ModelConfig) -> Sam2:
    """The model of that configuration, in eval mode, with initial (untrained) weights."""
    return Sam2(config).eval()
