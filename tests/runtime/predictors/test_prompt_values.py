"""Prompts as tools and detectors give them: empty arrays, and masks of 0 and 255 or of floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from colour_model import ColourSession

from sam2rt import ImagePredictor, InputError, StreamTracker, VideoPredictor

FRAME = np.full((256, 256, 3), 90, np.uint8)
CLICK: dict[str, Any] = {"points": [[20, 42]], "labels": [1]}


def refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.fixture
def session() -> ColourSession:
    return ColourSession()


EMPTY: dict[str, list[Any]] = {
    "points": [[], (), np.zeros((0, 2)), np.zeros((0, 2), np.int64), np.zeros((1, 0, 2))],
    "labels": [[], np.zeros(0, np.int32), np.zeros((1, 0)), None],
    "box": [[], (), np.zeros((0, 4)), np.zeros(0), None],
}


@pytest.mark.parametrize("points", [*EMPTY["points"], None], ids=repr)
@pytest.mark.parametrize("labels", EMPTY["labels"], ids=repr)
def test_empty_points_are_none_everywhere(points: Any, labels: Any, session: ColourSession) -> None:
    """Detectors and tools give arrays of length zero where they found nothing."""
    box = [8, 30, 32, 54]
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    expected = image.predict(box=box)
    found = image.predict(points, labels, box)
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    image.set_image_batch([FRAME])
    np.testing.assert_array_equal(image.predict_batch([points], [labels], [box])[2][0], expected[2])
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    plain = video.add_new_points_or_box(state, 0, 1, box=box)[2]
    both = video.add_new_points_or_box(state, 0, 2, points, labels, box=box)[2]
    np.testing.assert_array_equal(both[0], plain[0])
    np.testing.assert_array_equal(both[1], plain[0])
    stream = StreamTracker(session.bundle, session=session)
    stream.add_box(1, box)
    stream.add_points(2, points, labels, box=box)
    masks = stream.step(FRAME).masks
    np.testing.assert_array_equal(masks[0], masks[1])


@pytest.mark.parametrize("box", EMPTY["box"], ids=repr)
def test_empty_boxes_are_none_everywhere(box: Any, session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    expected = image.predict([[20, 42]], [1])
    np.testing.assert_array_equal(image.predict([[20, 42]], [1], box)[2], expected[2])
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    plain = video.add_new_points_or_box(state, 0, 1, **CLICK)[2]
    both = video.add_new_points_or_box(state, 0, 2, **CLICK, box=box, clear_old_points=False)[2]
    np.testing.assert_array_equal(both[1], plain[0])
    stream = StreamTracker(session.bundle, session=session)
    stream.add_points(1, **CLICK)
    stream.add_points(2, **CLICK, box=box, clear_old_points=False)
    masks = stream.step(FRAME).masks
    np.testing.assert_array_equal(masks[0], masks[1])
    for call in (
        lambda: video.add_new_points_or_box(state, 0, 3, [], [], box=box),
        lambda: stream.add_points(3, np.zeros((0, 2)), None, box=box),
        lambda: stream.add_points(3, box=box),
    ):
        refused(call, "no prompt: give points with labels, a box, or both")


def test_empty_points_and_labels_that_are_none_or_the_reverse(session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    stream = StreamTracker(session.bundle, session=session)
    for call in (
        lambda: image.predict(np.zeros((0, 2)), [1]),
        lambda: image.predict([], [1]),
        lambda: image.predict([[1, 2]], []),
        lambda: video.add_new_points_or_box(state, 0, 1, [], [1]),
        lambda: stream.add_points(1, [[1, 2]], []),
        lambda: stream.add_points(1, None, [1]),
    ):
        refused(call, r"without (points|labels): give both or neither")


DISC = np.hypot(*np.ogrid[-128:128, -100:156]) < 50


@pytest.mark.parametrize(
    "mask",
    [
        DISC.astype(np.uint8) * 255,
        DISC.astype(np.int64) * 255,
        DISC.astype(np.float32) * 255,
        DISC.astype(np.uint8),
        DISC.astype(np.float32),
        DISC.astype(np.float64),
        (DISC.astype(np.uint8) * 255).tolist(),
    ],
    ids=["uint8 255", "int64 255", "float32 255", "uint8", "float32", "float64", "list 255"],
)
def test_masks_of_two_values_are_what_bool_ones_are(mask: Any, session: ColourSession) -> None:
    """``sam2rt track`` writes 0 and 255, and so do most tools."""
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    expected = video.add_new_mask(state, 0, 1, DISC)[2]
    assert ((expected[0, 0] > 0) == DISC).mean() > 0.98
    found = video.add_new_mask(state, 0, 2, mask)[2]
    np.testing.assert_array_equal(found[1], expected[0])
    stream = StreamTracker(session.bundle, session=session)
    stream.add_mask(1, DISC)
    stream.add_mask(2, mask)
    masks = stream.step(FRAME).masks
    np.testing.assert_array_equal(masks[0], masks[1])


@pytest.mark.parametrize(
    "values", [(0, 1, 255), (0, 2), (0, 254), (0.0, 0.5), (-1, 1), (0, np.nan)]
)
def test_masks_of_other_values_are_refused(values: Any, session: ColourSession) -> None:
    """Which objects of a map of ids are meant, and where logits begin, cannot be known."""
    mask = np.resize(np.array(values), (256, 256))
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    message = "a mask must be bool or hold only 0 and 1: compare it with > 0 first"
    refused(lambda: video.add_new_mask(state, 0, 1, mask), message)
    refused(lambda: StreamTracker(session.bundle, session=session).add_mask(1, mask), message)
    assert state.obj_ids == []
