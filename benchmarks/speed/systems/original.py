"""The original's PyTorch predictor (package ``sam2``), eager and as it compiles itself."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ....configs.errors import SessionError
from ....configs.models import ModelConfig
from ....runtime.arrays import Array
from ....runtime.packages import pillow_image
from ..clip import scored_clip, timed_frames, timed_points
from .system import LATER, Tracked, Work
from .torch_baseline import TorchBaseline, autocast, stacked_choices, state_of

#: how long a video it is told to have: pointer distances are divided by 15 from 16 frames on
_LENGTH = 1 << 20
_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}


class OriginalSystem(TorchBaseline):
    """``build_sam2_video_predictor`` and ``propagate_in_video``, in float32 or autocast.

    compile: built with ``vos_optimized=True``, the original's own use of torch.compile. Frames
    are put where ``init_state`` keeps them, resized and normalised by sam2rt, which is not part of
    its time. Its memories are bfloat16, as it always stores them. Its filling of holes is off.
    """

    def load(self) -> dict[str, Any]:
        start = time.perf_counter()
        # a bar per clip would be drawn over the progress of the comparison
        os.environ["TQDM_DISABLE"] = "1"
        try:
            torch = importlib.import_module("torch")
            build = importlib.import_module("sam2.build_sam").build_sam2_video_predictor
        except ImportError:
            raise SessionError(
                "the package sam2 is not installed: pip install "
                "git+https://github.com/facebookresearch/sam2 (or leave this baseline out)"
            ) from None
        torch.set_num_threads(self.work.threads)
        torch.manual_seed(0)
        self._torch = torch
        predictor = build(
            original_config(self.config),
            None,
            device=self._device,
            hydra_overrides_extra=[f"++model.image_size={self.config.image_size}"],
            vos_optimized=self._compile,
        )
        # its builder sets 8 whatever is asked for
        predictor.fill_hole_area = 0
        if self._checkpoint is not None:
            predictor.load_state_dict(state_of(self._checkpoint, self.config), strict=True)
        self._predictor = predictor.eval()
        self._time_stages()
        return {"load_s": time.perf_counter() - start}

    def set_up(self, work: Work) -> dict[str, float]:
        self.work = work
        self._frames = timed_frames(work)
        first = next(self._frames)
        start = self._stages.now()
        self._start([first], timed_points(work))
        self._step()
        seconds = self._stages.now() - start
        self._video.show(self._pixels(next(self._frames)))
        self._step()
        for outputs in self._state["output_dict_per_obj"].values():
            tracked = outputs["non_cond_frame_outputs"]
            tracked[LATER - 1] = tracked.pop(self._now)
        self._now = LATER - 1
        self._loop = self._predictor.propagate_in_video(self._state, start_frame_idx=LATER)
        return {"first_frame_s": seconds}

    def frame(self) -> dict[str, float]:
        self._fill()
        self._video.show(self._pixels(next(self._frames)))
        return self._stages.frame(self._step)

    def operations(self) -> dict[str, float]:
        if self._compile:
            return {}
        self._fill()
        self._video.show(self._pixels(next(self._frames)))
        return self._stages.counted(self._step)

    def tracked(self, work: Work) -> Tracked | None:
        if self._checkpoint is None:
            return None
        clip = scored_clip(work)
        self._start(clip.frames[:1], clip.points)
        masks, choices = [], []
        prompted = list(self._stages.choices)
        for index, frame in enumerate(clip.frames):
            self._stages.choices.clear()
            self._video.show(self._pixels(frame))
            masks.append(self._step())
            # the prompted frame was decoded when it was prompted
            choices.append(prompted if index == 0 else list(self._stages.choices))
        return Tracked(np.stack(masks), stacked_choices(choices, len(clip.points)))

    def _start(self, frames: list[Array], points: list[tuple[float, float]]) -> None:
        """A state on the first frame with each object prompted, and the loop that tracks on."""
        image = pillow_image()
        with tempfile.TemporaryDirectory() as folder, self._context():
            image.fromarray(frames[0]).save(Path(folder) / "0.jpg", quality=95)
            state = self._predictor.init_state(folder)
        self._video = _Video(self._pixels(frames[0]))
        state["images"], state["num_frames"] = self._video, _LENGTH
        state["cached_features"] = {}
        self._state = state
        self._stages.choices.clear()
        with self._context():
            for number, point in enumerate(points, 1):
                self._predictor.add_new_points_or_box(
                    inference_state=state,
                    frame_idx=0,
                    obj_id=number,
                    points=np.array([point], np.float32),
                    labels=np.array([1], np.int32),
                )
        self._loop = self._predictor.propagate_in_video(state)
        self._now = 0

    def _step(self) -> Array:
        """Masks [N, H, W] of the next frame."""
        with self._context():
            self._now, _, logits = next(self._loop)
        masks: Array = (logits[:, 0] > 0).cpu().numpy()
        return masks

    def _fill(self) -> None:
        """Repeat the newest tracked output on the frames before, as many as the work says.

        The original takes pointers where it takes memories, and looks no further back for the
        latter than it may: fewer memories than the model's mean as few pointers.
        """
        most = self._predictor.num_maskmem
        count = self.work.pointers if self.work.memories >= most else self.work.memories
        for outputs in self._state["output_dict_per_obj"].values():
            tracked = outputs["non_cond_frame_outputs"]
            if self._now not in tracked:
                continue
            newest = tracked[self._now]
            tracked.clear()
            # a clip of one memory has the prompted frame alone
            for t in range(self._now, self._now - count + 1, -1):
                tracked[t] = newest

    def _context(self) -> Any:
        return _Both(self._torch.inference_mode(), autocast(self._device, self._precision))

    def _time_stages(self) -> None:
        model, wrap = self._predictor, self._stages.wrap
        wrap(model.image_encoder, "forward", "image_encoder")
        wrap(model.memory_attention, "forward", "memory_attention")
        wrap(model.sam_prompt_encoder, "forward", "mask_decoder")
        wrap(model.sam_mask_decoder, "forward", "mask_decoder", self._stages.see_decoded)
        wrap(model.memory_encoder, "forward", "memory_encoder")


class _Both:
    """Two contexts as one."""

    def __init__(self, outer: Any, inner: Any) -> None:
        self._contexts = (outer, inner)

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


class _Video:
    """What the predictor indexes as a video: whatever frame it asks for is the one shown."""

    def __init__(self, pixels: Any) -> None:
        self._pixels = pixels

    def show(self, pixels: Any) -> None:
        self._pixels = pixels

    def __getitem__(self, index: int) -> Any:
        return self._pixels

    def __len__(self) -> int:
        return _LENGTH


def original_config(config: ModelConfig) -> str:
    """The original's name for the configuration of a model. Raises SessionError without one."""
    family, _, variant = config.name.partition("_hiera_")
    if variant not in _SIZES:
        raise SessionError(f"the package sam2 has no configuration of the model {config.name}")
    return f"configs/{family}/{family}_hiera_{_SIZES[variant]}.yaml"
