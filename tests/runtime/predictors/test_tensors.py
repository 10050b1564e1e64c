"""Tensors of torch as images, points, boxes and masks: with gradients, on a GPU, of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from colour_model import RED, ColourSession, box_mask, draw

from sam2rt import FrameError, ImagePredictor, InputError, StreamTracker, VideoPredictor

BOX = (8, 8, 48, 40)
FRAME = draw([(RED, BOX)])


class OnGpu:
    """A tensor as torch shows one on a GPU: numpy may not read it, ``cpu()`` fetches it."""

    def __init__(self, values: Any, kind: Any = None) -> None:
        self._tensor = torch.tensor(values, dtype=kind)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def detach(self) -> OnGpu:
        return self

    def cpu(self) -> torch.Tensor:
        return self._tensor


def with_grad(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


@pytest.fixture
def session() -> ColourSession:
    return ColourSession()


@pytest.mark.parametrize("made", [with_grad, OnGpu, torch.tensor])
@pytest.mark.parametrize("kind", ["points", "box"])
def test_prompts(made: Any, kind: str, session: ColourSession) -> None:
    given: dict[str, Any] = (
        {"points": made([[20.0, 20.0]]), "labels": made([1.0])}
        if kind == "points"
        else {"box": made([float(v) for v in BOX])}
    )
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    names = {"points": "point_coords", "labels": "point_labels", "box": "box"}
    masks, _, low = image.predict(**{names[name]: value for name, value in given.items()})
    np.testing.assert_array_equal(masks[0], box_mask(BOX))
    again, _, _ = image.predict(mask_input=made(low[:1].tolist()))
    np.testing.assert_array_equal(again[0], box_mask(BOX))
    video = VideoPredictor(session.bundle, session=session)
    logits = video.add_new_points_or_box(video.init_state([FRAME]), 0, 1, **given)[2]
    np.testing.assert_array_equal(logits[0, 0] > 0, box_mask(BOX))
    stream = StreamTracker(session.bundle, session=session)
    stream.add_points(1, **given)
    np.testing.assert_array_equal(stream.step(FRAME).masks[0], box_mask(BOX))


@pytest.mark.parametrize("made", [with_grad, OnGpu, torch.tensor])
def test_mask_prompts(made: Any, session: ColourSession) -> None:
    mask = np.zeros((256, 256), np.float32)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    video = VideoPredictor(session.bundle, session=session)
    logits = video.add_new_mask(video.init_state([FRAME]), 0, 1, made(mask.tolist()))[2]
    np.testing.assert_array_equal(logits[0, 0] > 0, box_mask(BOX))
    stream = StreamTracker(session.bundle, session=session)
    stream.add_mask(1, made(mask.tolist()))
    np.testing.assert_array_equal(stream.step(FRAME).masks[0], box_mask(BOX))


@pytest.mark.parametrize(
    "strange",
    [
        torch.zeros(2, 2, device="meta"),
        torch.zeros(2, 2, dtype=torch.bfloat16, requires_grad=True),
        torch.zeros(2, 2).to_sparse(),
        [with_grad([1.0, 2.0]), with_grad([3.0, 4.0])],
    ],
    ids=["meta", "bfloat16", "sparse", "list of tensors with grad"],
)
def test_tensors_that_numpy_cannot_hold(strange: Any, session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state([FRAME])
    for call in (
        lambda: image.predict(strange, [1, 1]),
        lambda: image.predict([[1, 2], [3, 4]], strange),
        lambda: video.add_new_points_or_box(state, 0, 1, strange, [1, 1]),
        lambda: StreamTracker(session.bundle, session=session).add_points(1, strange, [1, 1]),
    ):
        with pytest.raises(InputError, match="must be an array of numbers"):
            call()
    with pytest.raises(InputError, match=r"a mask prompt must be an array \[H, W\]"):
        video.add_new_mask(state, 0, 1, strange)
    with pytest.raises(FrameError, match="a frame must be uint8"):
        image.set_image(strange)


def test_images(session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    for rgb in (torch.from_numpy(FRAME), OnGpu(FRAME.tolist(), torch.uint8)):
        image.set_image(rgb)
        masks, _, _ = image.predict([[20, 20]], [1])
        np.testing.assert_array_equal(masks[0], box_mask(BOX))
    with pytest.raises(FrameError, match=r"a frame must be uint8, got float32: use frame\.round"):
        image.set_image(with_grad(FRAME.tolist()))
