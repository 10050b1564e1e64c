"""Hugging Face transformers, brought to the same work; needs its package installed."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np

from ....configs.extras import extras_of
from ....configs.models import ModelConfig
from ....runtime.arrays import Array
from ..clip import scored_clip, timed_frames, timed_points
from .system import LATER, Tracked, Work
from .torch_baseline import (
    TorchBaseline,
    autocast,
    compiled,
    scaled_points,
    stacked_choices,
    state_of,
)

#: frames after which no pointer or memory reaches further: how long a clip it is told to be
_LENGTH = 1000


class TransformersSystem(TorchBaseline):
    """Hugging Face transformers' Sam2VideoModel, eager or compiled, float32 or autocast.

    Without a checkpoint its weights are its own random initialisation: they do not change what
    is computed. Memories stay float32 (the model would cast them to bfloat16 and back). Frames
    come resized and normalised, which is not part of its time.
    """

    def load(self) -> dict[str, Any]:
        start = time.perf_counter()
        with extras_of("the transformers baseline"):
            import torch
            from transformers import Sam2VideoModel
            from transformers.models.sam2_video import modeling_sam2_video as module
        torch.set_num_threads(self.work.threads)
        torch.manual_seed(0)
        self._torch, self._module = torch, module
        # a process of its own: nobody else sees the changed module
        vars(module)["torch"] = _Float32Memories()
        model: Any = Sam2VideoModel(transformers_config(self.config))
        if self._checkpoint is not None:
            from ....export.checkpoint.keymap import transformers_from_original

            state = transformers_from_original(state_of(self._checkpoint, self.config))
            model.load_state_dict(state, strict=True)
        self._model = model.eval().to(self._device)
        if self._compile:
            for part in ("vision_encoder", "memory_attention", "mask_decoder", "memory_encoder"):
                compiled(getattr(model, part))
        self._time_stages()
        return {"load_s": time.perf_counter() - start}

    def set_up(self, work: Work) -> dict[str, float]:
        self.work = work
        self._frames = timed_frames(work)
        self._start(timed_points(work), work.frame_size)
        pixels = self._pixels(next(self._frames))
        start = self._stages.now()
        self._track(pixels)
        seconds = self._stages.now() - start
        self._track(self._pixels(next(self._frames)))
        newest, self._now = self._now - 1, LATER
        for outputs in self._session.output_dict_per_obj.values():
            tracked = outputs["non_cond_frame_outputs"]
            tracked[LATER - 1] = tracked.pop(newest)
        return {"first_frame_s": seconds}

    def frame(self) -> dict[str, float]:
        self._fill()
        pixels = self._pixels(next(self._frames))
        return self._stages.frame(lambda: self._track(pixels))

    def operations(self) -> dict[str, float]:
        if self._compile:
            return {}
        self._fill()
        pixels = self._pixels(next(self._frames))
        return self._stages.counted(lambda: self._track(pixels))

    def tracked(self, work: Work) -> Tracked | None:
        if self._checkpoint is None:
            return None
        clip = scored_clip(work)
        height, width = clip.frames[0].shape[:2]
        self._start(clip.points, (height, width))
        masks, choices = [], []
        for frame in clip.frames:
            self._stages.choices.clear()
            masks.append(self._track(self._pixels(frame)))
            choices.append(list(self._stages.choices))
        return Tracked(np.stack(masks), stacked_choices(choices, len(clip.points)))

    def _start(self, points: list[tuple[float, float]], size: tuple[int, int]) -> None:
        torch = self._torch
        session: Any = self._module.Sam2VideoInferenceSession(
            video_height=size[0],
            video_width=size[1],
            dtype=torch.float32,
            inference_device=self._device,
        )
        session.processed_frames = {}
        self._session, self._size, self._now = session, size, 0
        for number, point in enumerate(scaled_points(points, size, self.config.image_size), 1):
            inputs = {
                "point_coords": torch.tensor([[[point]]]),
                "point_labels": torch.tensor([[[1]]], dtype=torch.int32),
            }
            inputs = {name: value.to(self._device) for name, value in inputs.items()}
            session.add_point_inputs(session.obj_id_to_idx(number), 0, inputs)
            session.obj_with_new_inputs.append(number)

    def _track(self, pixels: Any) -> Array:
        """Masks [N, H, W] of the next frame."""
        torch = self._torch
        frames = self._session.processed_frames
        frames.clear()
        # the length of the video decides how many pointers are used
        frames.update(dict.fromkeys(range(_LENGTH), pixels))
        with torch.inference_mode(), autocast(self._device, self._precision):
            out = self._model(self._session, frame_idx=self._now)
            logits = torch.nn.functional.interpolate(
                out.pred_masks.float(), size=self._size, mode="bilinear"
            )
        self._now += 1
        masks: Array = (logits[:, 0] > 0).cpu().numpy()
        return masks

    def _fill(self) -> None:
        """Repeat the newest tracked output on the frames before, as many as the work says."""
        for outputs in self._session.output_dict_per_obj.values():
            tracked = outputs["non_cond_frame_outputs"]
            if self._now - 1 in tracked:
                newest = dict(tracked[self._now - 1])
                bare = {k: v for k, v in newest.items() if not k.startswith("maskmem")}
                tracked.clear()
                for t in range(self._now - 1, self._now - self.work.pointers, -1):
                    tracked[t] = newest if self._now - t < self.work.memories else bare

    def _time_stages(self) -> None:
        model, wrap = self._model, self._stages.wrap
        wrap(model, "get_image_features", "image_encoder")
        wrap(model.memory_attention, "forward", "memory_attention")
        wrap(model.prompt_encoder, "forward", "mask_decoder")
        wrap(model.mask_decoder, "forward", "mask_decoder", self._stages.see_decoded)
        wrap(model.memory_encoder, "forward", "memory_encoder")


class _Float32Memories:
    """The torch module, where bfloat16 is float32."""

    def __getattr__(self, name: str) -> Any:
        torch = importlib.import_module("torch")
        return torch.float32 if name == "bfloat16" else getattr(torch, name)


def transformers_config(model: ModelConfig) -> Any:
    """The Sam2VideoConfig of one of sam2rt's models."""
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
