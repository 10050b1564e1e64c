"""A clip of twenty frames, and what the predictors say of it: the truth for every tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sam2rt import Bundle, ImagePredictor, VideoPredictor
from sam2rt.benchmarks.synthetic.clips import SyntheticClip, make_clip
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

Masks = NDArray[np.bool_]
#: long enough for a stream without a known length to be a video's equal
FRAMES = 20


@pytest.fixture(scope="session")
def built_in(shared_bundles: Any) -> Bundle:
    return shared_bundles.built_in()


@pytest.fixture(scope="session")
def model(built_in: Bundle) -> Iterator[OnnxRuntimeSession]:
    with OnnxRuntimeSession(built_in, threads=1) as session:
        yield session


@pytest.fixture(scope="session")
def clip() -> SyntheticClip:
    return make_clip(5, "plain", FRAMES)


@pytest.fixture(scope="session")
def segmented(model: OnnxRuntimeSession, clip: SyntheticClip) -> Callable[..., tuple[Masks, float]]:
    """The image predictor's mask and predicted IoU on the clip's first frame."""

    def answer(points: Any = (), labels: Any = (), box: Any = None) -> tuple[Masks, float]:
        image = ImagePredictor(model.bundle, session=model)
        image.set_image(clip.frames[0])
        masks, ious, _ = image.predict(points, labels, box=box, multimask_output=False)
        return masks[0], float(ious[0])

    return answer


@pytest.fixture(scope="session")
def tracked(model: OnnxRuntimeSession, clip: SyntheticClip) -> Callable[..., list[Masks]]:
    """The video predictor's masks [N, H, W] of each frame of the clip; one prompt an object."""

    def answer(*prompts: dict[str, Any]) -> list[Masks]:
        video = VideoPredictor(model.bundle, session=model)
        state = video.init_state(clip.frames)
        for number, prompt in enumerate(prompts, 1):
            if "mask" in prompt:
                video.add_new_mask(state, 0, number, prompt["mask"])
            else:
                video.add_new_points_or_box(state, 0, number, **prompt)
        return [logits[:, 0] > 0 for _, _, logits in video.propagate_in_video(state)]

    return answer
