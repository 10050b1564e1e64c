"""Other implementations, brought to the same work. Each needs its package installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..configs.errors import MissingExtraError
from ..configs.models import ModelConfig
from .systems import Work


class TransformersSystem:
    """Hugging Face transformers' Sam2VideoModel, eager PyTorch, float32.

    Weights are its own random initialisation: they do not change what is computed. Memories
    stay float32 (the model would cast them to bfloat16 and back).
    """

    def __init__(self, work: Work, model: ModelConfig) -> None:
        self.work, self.config = work, model
        self.seconds: dict[str, float] = {}

    def prepare(self) -> dict[str, Any]:
        start = time.perf_counter()
        try:
            import torch
            from transformers import Sam2VideoModel
            from transformers.models.sam2_video.modeling_sam2_video import (
                Sam2VideoInferenceSession,
            )
        except ImportError:
            raise MissingExtraError("the transformers peer", "transformers", "dev") from None
        torch.set_num_threads(self.work.threads)
        torch.manual_seed(0)
        self._torch = torch
        model: Any = Sam2VideoModel(transformers_config(self.config))
        self._model = model.eval()
        self._time_stages()
        loaded = time.perf_counter()

        size = self.config.image_size
        generator = torch.Generator().manual_seed(0)
        self._video = torch.randn(4, 3, size, size, generator=generator)
        height, width = self.work.frame_size
        session: Any = Sam2VideoInferenceSession(
            video_height=height, video_width=width, dtype=torch.float32
        )
        session.processed_frames = {}
        self._session = session
        for index in range(self.work.objects):
            self._prompt(index, size * (index + 1) / (self.work.objects + 1), size / 2)
        self._now = 0
        self._run()
        first = time.perf_counter()
        self._run()
        return {"load_s": loaded - start, "first_frame_s": first - loaded}

    def frame(self) -> dict[str, float]:
        self._fill()
        self.seconds.clear()
        start = time.perf_counter()
        self._run()
        total = time.perf_counter() - start
        stages = dict(self.seconds)
        return {**stages, "other": total - sum(stages.values()), "total": total}

    def _prompt(self, index: int, x: float, y: float) -> None:
        torch = self._torch
        index = self._session.obj_id_to_idx(index + 1)
        inputs = {
            "point_coords": torch.tensor([[[[x, y]]]]),
            "point_labels": torch.tensor([[[1]]], dtype=torch.int32),
        }
        self._session.add_point_inputs(index, 0, inputs)
        self._session.obj_with_new_inputs.append(index + 1)

    def _run(self) -> None:
        torch = self._torch
        frames = self._session.processed_frames
        frames.clear()
        # the length of the video decides how many pointers are used
        frames.update(dict.fromkeys(range(1000), self._video[self._now % 4]))
        with torch.inference_mode():
            out = self._model(self._session, frame_idx=self._now)
            torch.nn.functional.interpolate(
                out.pred_masks, size=self.work.frame_size, mode="bilinear"
            )
        self._now += 1

    def _fill(self) -> None:
        """Repeat the newest tracked output on the frames before, as many as the work says."""
        for outputs in self._session.output_dict_per_obj.values():
            tracked = outputs["non_cond_frame_outputs"]
            newest = dict(tracked[max(tracked)])
            for key in ("maskmem_features", "maskmem_pos_enc"):
                newest[key] = newest[key].float()
            bare = {k: v for k, v in newest.items() if not k.startswith("maskmem")}
            tracked.clear()
            for t in range(self._now - 1, self._now - self.work.pointers, -1):
                tracked[t] = newest if self._now - t < self.work.memories else bare

    def _time_stages(self) -> None:
        model = self._model
        self._timed(model, "get_image_features", "image_encoder")
        self._timed(model.memory_attention, "forward", "memory_attention")
        self._timed(model.prompt_encoder, "forward", "mask_decoder")
        self._timed(model.mask_decoder, "forward", "mask_decoder")
        self._timed(model.memory_encoder, "forward", "memory_encoder")

    def _timed(self, owner: Any, method: str, stage: str) -> None:
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

        setattr(owner, method, timed)


def transformers_config(model: ModelConfig) -> Any:
    """The Sam2VideoConfig of one of our models."""
    from transformers import Sam2VideoConfig

    size, c, dims = model.image_size, model.hidden_dim, model.stage_dims
    heads = [model.num_heads * 2**i for i in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": model.embed_dim,
        "image_size": [size, size],
        "embed_dim_per_stage": list(dims),
        "num_attention_heads": model.num_heads,
        "num_attention_heads_per_stage": heads,
        "blocks_per_stage": list(model.stages),
        "global_attention_blocks": list(model.global_att_blocks),
        "window_size_per_stage": list(model.window_spec),
        "window_positional_embedding_background_size": list(model.pos_embed_size),
    }
    grid = [[size // s, size // s] for s in (4, 8, 16)]
    return Sam2VideoConfig(
        vision_config={
            "backbone_config": backbone,
            "backbone_channel_list": list(reversed(dims)),
            "backbone_feature_sizes": grid,
            "fpn_hidden_size": c,
        },
        prompt_encoder_config={"hidden_size": c, "image_size": size},
        mask_decoder_config={"hidden_size": c},
        image_size=size,
        memory_attention_hidden_size=c,
        memory_attention_num_layers=model.memory_attention_layers,
        memory_attention_feed_forward_hidden_size=model.memory_attention_ffn,
        memory_attention_rope_feat_sizes=[size // 16, size // 16],
        memory_encoder_hidden_size=c,
        memory_encoder_output_channels=model.mem_dim,
        mask_downsampler_embed_dim=c,
        memory_fuser_embed_dim=c,
        memory_fuser_intermediate_dim=4 * c,
        num_maskmem=model.num_maskmem,
        enable_temporal_pos_encoding_for_object_pointers=model.family == "2.1",
        enable_occlusion_spatial_embedding=model.family == "2.1",
    )


def percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")
