"""Calls drawn at random through the C interface and through Python: equal bits, equal refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cpp_library import Failed, Library, Result, Stream, Video

from sam2rt import FrameError, InputError, StateError, StreamTracker, VideoPredictor
from sam2rt.configs.errors import Sam2rtError
from sam2rt.runtime.session import Session

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, FRAMES = 45, 60, 10
STATUS = {InputError: -1, FrameError: -2, StateError: -3}


def both(python: Callable[[], Any], cpp: Callable[[], Any]) -> tuple[Any, Any]:
    """What the two give; they must refuse alike, status and text: (None, None) then."""
    refused: Sam2rtError | None = None
    expected = None
    try:
        expected = python()
    except Sam2rtError as error:
        refused = error
    if refused is None:
        return expected, cpp()
    with pytest.raises(Failed) as failed:
        cpp()
    assert (failed.value.status, str(failed.value)) == (STATUS[type(refused)], str(refused))
    return None, None


class Walk:
    """Draws options, frames and prompts; about one argument in ten is wrong."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.frames = self.rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
        for t, frame in enumerate(self.frames):
            frame[10:30, 5 + 3 * t : 25 + 3 * t] = (220, 60, 40)

    def one_of(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def options(self, library: Library) -> tuple[Any, dict[str, Any]]:
        chosen: dict[str, Any] = {
            "non_overlap_masks": self.one_of(False, True),
            "max_cond_frames_in_attn": self.one_of(-1, 2, 3),
            "fill_hole_area": self.one_of(0, 8, 60),
            "memory_dtype": self.one_of("float32", "float16", "bfloat16"),
        }
        raw = library.default_options()
        for name, value in chosen.items():
            setattr(raw, name, value.encode() if isinstance(value, str) else int(value))
        raw.objects_per_call = self.one_of(0, 1, 2)
        chosen["objects_per_call"] = raw.objects_per_call or None
        return raw, chosen

    def object(self) -> int:
        return int(self.one_of(1, 2, 3, 2**40))

    def frame_idx(self) -> int:
        return int(
            self.one_of(-1, FRAMES) if self.rng.random() < 0.05 else self.rng.integers(FRAMES)
        )

    def point(self) -> list[float]:
        return [float(np.float32(self.rng.uniform(-0.12, 1.1) * side)) for side in (WIDTH, HEIGHT)]

    def prompt(self) -> dict[str, Any]:
        count = int(self.rng.integers(1, 4))
        prompt: dict[str, Any] = {}
        if self.rng.random() < 0.75:
            prompt["points"] = [self.point() for _ in range(count)]
            prompt["labels"] = [int(self.one_of(1, 1, 0)) for _ in range(count)]
            prompt["clear_old_points"] = bool(self.rng.random() < 0.5)
        if not prompt or self.rng.random() < 0.2:
            prompt["box"] = [*self.point(), *self.point()]
            if self.rng.random() < 0.8:
                xs, ys = sorted(prompt["box"][::2]), sorted(prompt["box"][1::2])
                prompt["box"] = [xs[0], ys[0], xs[1], ys[1]]
        if self.rng.random() < 0.05:
            prompt |= {"points": [[1.5, float("nan")]], "labels": [1]}
        return prompt

    def mask(self) -> Any:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        top, left = self.rng.integers(0, HEIGHT - 4), self.rng.integers(0, WIDTH - 4)
        mask[top : top + 20, left : left + 25] = self.one_of(1, 1, 1, 255, 0, 2)
        return mask


class VideoWalk(Walk):
    """The same calls of a video in both languages."""

    def __init__(self, seed: int, library: Library, cpp: Any, session: Session) -> None:
        super().__init__(seed)
        raw, chosen = self.options(library)
        raw.add_all_frames_to_correct_as_cond = self.one_of(0, 1)
        chosen["add_all_frames_to_correct_as_cond"] = bool(raw.add_all_frames_to_correct_as_cond)
        self.predictor = VideoPredictor(session.bundle, session=session, **chosen)
        self.state = self.predictor.init_state(self.frames)
        self.video = Video(library, cpp, self.frames, raw)
        self.found = Result(HEIGHT, WIDTH)
        self.running: Iterator[Any] | None = None

    def same(self, python: Callable[[], Any], cpp: Callable[[], Any]) -> bool:
        """Whether there was a result, which is then equal to the bit."""
        expected, _ = both(python, cpp)
        if expected is None:
            return False
        frame_idx, obj_ids, logits = expected
        assert (self.found.raw.frame_idx, self.found.obj_ids) == (frame_idx, obj_ids)
        np.testing.assert_array_equal(self.found.logits, logits[:, 0])
        np.testing.assert_array_equal(self.found.masks, logits[:, 0] > 0)
        return True

    def add_points(self) -> None:
        t, obj_id, prompt = self.frame_idx(), self.object(), self.prompt()
        self.same(
            lambda: self.predictor.add_new_points_or_box(self.state, t, obj_id, **prompt),
            lambda: self.video.add_points(t, obj_id, self.found, **prompt),
        )

    def add_mask(self) -> None:
        t, obj_id, mask = self.frame_idx(), self.object(), self.mask()
        self.same(
            lambda: self.predictor.add_new_mask(self.state, t, obj_id, mask),
            lambda: self.video.add_mask(t, obj_id, mask, self.found),
        )

    def clear(self) -> None:
        t, obj_id = self.frame_idx(), self.object()
        for item in self.state.objects.values():
            # mostly a frame that has a prompt
            t = int(self.one_of(t, *item.points, *item.masks))
        self.same(
            lambda: self.predictor.clear_all_prompts_in_frame(self.state, t, obj_id),
            lambda: self.video.clear_prompts(t, obj_id, self.found),
        )

    def remove(self) -> None:
        obj_id = self.object()
        both(
            lambda: self.predictor.remove_object(self.state, obj_id, strict=True),
            lambda: self.video.remove_object(obj_id),
        )

    def reset(self) -> None:
        self.predictor.reset_state(self.state)
        self.video.reset()

    def propagate(self) -> None:
        # to C, -1 means what None does here
        start = self.one_of(None, None, max(self.frame_idx(), 0))
        most = self.one_of(None, 0, 3, 5, -2)
        reverse = self.one_of(False, False, True)
        self.running = self.predictor.propagate_in_video(self.state, start, most, reverse)

        def first() -> bool:
            self.video.propagate(
                -1 if start is None else start, -1 if most is None else most, reverse
            )
            return self.video.next(self.found)

        self.next(first)

    def next(self, cpp: Callable[[], bool] | None = None) -> None:
        """One more frame of what is propagating."""
        if self.running is None:
            return
        running = self.running
        if not self.same(lambda: next(running, None), cpp or (lambda: self.video.next(self.found))):
            self.running = None


@pytest.mark.parametrize("seed", range(6))
def test_a_video(seed: int, library: Library, micro_session: Session) -> None:
    cpp = library.session(library.bundle(micro_session.bundle.path))
    walk = VideoWalk(seed, library, cpp, micro_session)
    steps = [walk.add_points] * 6 + [walk.add_mask] * 2 + [walk.propagate] * 3
    steps += [walk.next] * 9 + [walk.clear] * 2 + [walk.remove, walk.reset]
    for _ in range(60):
        walk.one_of(*steps)()


class StreamWalk(Walk):
    """The same calls of a stream in both languages."""

    def __init__(self, seed: int, library: Library, cpp: Any, session: Session) -> None:
        super().__init__(seed)
        raw, chosen = self.options(library)
        if self.rng.random() < 0.5:
            # also a stream that outlives its length
            chosen["num_frames"] = raw.num_frames = int(self.rng.integers(1, 20))
        self.tracker = StreamTracker(session.bundle, session=session, **chosen)
        self.stream = Stream(library, cpp, raw)
        self.found = Result(HEIGHT, WIDTH)

    def add_points(self) -> None:
        obj_id, prompt = self.object(), self.prompt()
        both(
            lambda: self.tracker.add_points(obj_id, **prompt),
            lambda: self.stream.add_points(obj_id, **prompt),
        )

    def add_mask(self) -> None:
        obj_id, mask = self.object(), self.mask()
        mask = mask[:-1] if self.rng.random() < 0.1 else mask
        both(
            lambda: self.tracker.add_mask(obj_id, mask),
            lambda: self.stream.add_mask(obj_id, mask),
        )

    def remove(self) -> None:
        obj_id = self.object()
        both(
            lambda: self.tracker.remove_object(obj_id, strict=True),
            lambda: self.stream.remove_object(obj_id),
        )

    def reset(self) -> None:
        self.tracker.reset()
        self.stream.reset()

    def step(self) -> None:
        frame = self.frames[self.rng.integers(FRAMES)]
        if self.rng.random() < 0.1:
            frame = frame[: self.one_of(0, 20)]
        expected, _ = both(
            lambda: self.tracker.step(frame), lambda: self.stream.step(frame, self.found)
        )
        if expected is None:
            return
        count, pixels = len(expected.obj_ids), frame.shape[0] * WIDTH
        assert (self.found.raw.frame_idx, self.found.obj_ids) == (
            expected.frame_idx, expected.obj_ids,
        )  # fmt: skip
        # a frame of fewer rows fills less of the buffers
        for found, wanted in (
            (self.found._logits.ravel()[: count * pixels], expected.logits),
            (self.found._masks.ravel()[: count * pixels], expected.masks),
            (self.found.scores[:count], expected.object_scores),
            (self.found.ious[:count], expected.ious),
        ):
            np.testing.assert_array_equal(found, np.asarray(wanted).ravel())


@pytest.mark.parametrize("seed", range(6))
def test_a_stream(seed: int, library: Library, micro_session: Session) -> None:
    cpp = library.session(library.bundle(micro_session.bundle.path))
    walk = StreamWalk(seed, library, cpp, micro_session)
    steps = [walk.step] * 8 + [walk.add_points] * 4 + [walk.add_mask, walk.remove]
    for _ in range(100):
        walk.one_of(*steps)()
        if walk.rng.random() < 0.01:
            walk.reset()
