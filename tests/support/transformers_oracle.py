"""Hugging Face transformers as a second, independent implementation: small models, our weights.

Its video bookkeeping differs from the original's in known ways; what is used here agrees with
it but for the storage of memories in bfloat16, which :func:`float32_memories` takes away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.models import Family, ModelConfig
from sam2rt.export.checkpoint.keymap import transformers_from_original
from sam2rt.export.checkpoint.load import Checkpoint
from sam2rt.export.model.untrained import untrained_state
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

Array = NDArray[Any]


def small_config(family: Family) -> ModelConfig:
    """A model that transformers can build: its memories are 64 wide whatever is configured."""
    return ModelConfig(
        f"small{family}", family, 16, 1, (1, 2, 3, 1), (4,), image_size=256, hidden_dim=128,
        mem_dim=64, memory_attention_layers=2, memory_attention_ffn=128,
    )  # fmt: skip


def weights(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Original names; every tensor filled, objects present."""
    return untrained_state(config, 2)


def _vision_config(config: ModelConfig) -> dict[str, Any]:
    size = config.image_size
    channels = list(config.stage_dims)
    return {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": config.embed_dim,
            "num_attention_heads": config.num_heads,
            "image_size": [size, size],
            "window_positional_embedding_background_size": list(config.pos_embed_size),
            "blocks_per_stage": list(config.stages),
            "embed_dim_per_stage": channels,
            "num_attention_heads_per_stage": [config.num_heads * 2**i for i in range(4)],
            "window_size_per_stage": list(config.window_spec),
            "global_attention_blocks": list(config.global_att_blocks),
        },
        "backbone_channel_list": channels[::-1],
        "backbone_feature_sizes": [[size // n, size // n] for n in (4, 8, 16)],
        "fpn_hidden_size": config.hidden_dim,
    }


def _shared_configs(config: ModelConfig) -> dict[str, Any]:
    return {
        "vision_config": _vision_config(config),
        "prompt_encoder_config": {
            "image_size": config.image_size, "hidden_size": config.hidden_dim,
        },
        "mask_decoder_config": {"hidden_size": config.hidden_dim},
    }  # fmt: skip


def video_model(config: ModelConfig, state: Mapping[str, torch.Tensor]) -> Any:
    """``Sam2VideoModel`` with `state` (original names), loaded strictly."""
    c, newer = config.hidden_dim, config.family == "2.1"
    theirs = transformers.Sam2VideoConfig(
        **_shared_configs(config),
        image_size=config.image_size,
        num_maskmem=config.num_maskmem,
        enable_temporal_pos_encoding_for_object_pointers=newer,
        enable_occlusion_spatial_embedding=newer,
        memory_attention_hidden_size=c,
        memory_attention_num_layers=config.memory_attention_layers,
        memory_attention_feed_forward_hidden_size=config.memory_attention_ffn,
        memory_attention_rope_feat_sizes=[config.embed_size] * 2,
        memory_encoder_hidden_size=c,
        memory_encoder_output_channels=config.mem_dim,
        mask_downsampler_embed_dim=c,
        memory_fuser_embed_dim=c,
        memory_fuser_intermediate_dim=4 * c,
    )
    model = transformers.Sam2VideoModel(theirs).eval()
    model.load_state_dict(transformers_from_original(state), strict=True)
    return model


def image_model(config: ModelConfig, state: Mapping[str, torch.Tensor]) -> Any:
    """``Sam2Model``, the image part alone, with the tensors it has."""
    model = transformers.Sam2Model(transformers.Sam2Config(**_shared_configs(config))).eval()
    wanted = model.state_dict().keys()
    theirs = transformers_from_original(state)
    model.load_state_dict({k: v for k, v in theirs.items() if k in wanted}, strict=True)
    return model


@contextmanager
def float32_memories() -> Iterator[None]:
    """Keep its memories in float32 while the block runs."""
    from transformers.models.sam2_video import modeling_sam2_video as module

    class Torch:
        bfloat16 = torch.float32

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "torch", Torch())
        yield


class TheirVideo:
    """One video in their session; prompts in pixels of the model's input."""

    def __init__(self, model: Any, pixels: Array, frame_size: tuple[int, int]) -> None:
        """`pixels`: normalised frames [T, 3, S, S] float32."""
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        self.model = model
        self.session = Sam2VideoInferenceSession(
            video=torch.from_numpy(pixels),
            video_height=frame_size[0],
            video_width=frame_size[1],
            dtype=torch.float32,
        )

    def prompt(self, frame_idx: int, obj_id: int, points: Array, labels: Array) -> Array:
        """Prompt an object, [P, 2] and [P]; its low-resolution logits [1, h, w]."""
        index = self.session.obj_id_to_idx(obj_id)
        prompt = {
            "point_coords": torch.tensor(points, dtype=torch.float32)[None, None],
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }
        self.session.add_point_inputs(index, frame_idx, prompt)
        self.session.obj_with_new_inputs = [obj_id]
        with torch.inference_mode(), float32_memories():
            out = self.model(inference_session=self.session, frame_idx=frame_idx)
        logits: Array = out.pred_masks[index].numpy()
        return logits

    def propagate(
        self, start: int, reverse: bool = False
    ) -> Iterator[tuple[int, list[int], Array, Array]]:
        """Frame, object ids, low-resolution logits [N, 1, h, w] and scores [N, 1]."""
        with torch.inference_mode(), float32_memories():
            for out in self.model.propagate_in_video_iterator(
                self.session, start_frame_idx=start, reverse=reverse
            ):
                yield (
                    out.frame_idx,
                    list(out.object_ids),
                    out.pred_masks.numpy(),
                    out.object_score_logits.numpy(),
                )


@dataclass(frozen=True)
class Pair:
    """The same weights on both sides."""

    config: ModelConfig
    state: dict[str, torch.Tensor]
    theirs: Any
    checkpoint: Checkpoint
    bundle: Bundle
    session: OnnxRuntimeSession


def moving_clip(config: ModelConfig, frames: int, seed: int = 0) -> Array:
    """Frames [T, h, w, 3] uint8 as large as a low-resolution mask."""
    from sam2rt.export.proof.closed_loop import make_clip

    clip: Array = make_clip(config, frames, seed).frames
    return clip


def disagreements(expected: Array, found: Array, near: float) -> int:
    """Pixels on different sides of zero, those with |expected| < near left out."""
    return int(np.count_nonzero(((expected > 0) != (found > 0)) & (np.abs(expected) >= near)))
