"""The interactive protocol: a simulated user clicks on frames where the result is wrong.

SAM 2 paper, section 6.1 and appendix F.1. Objects are segmented one at a time. On each frame the
user interacts with, `clicks` clicks are placed one after the other, each on the interior-most
pixel of the larger error; the very first on the object's own.

Offline: clicks on the object's first frame, a pass over the video, then again clicks on the frame
with the lowest IoU of that pass, and so on for `rounds` passes. Online: one pass, paused at frames
whose IoU is below 0.75 until clicks were placed on `rounds` frames; only later frames change.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ...runtime.arrays import Array
from ...runtime.predictors.video import VideoPredictor
from ...runtime.predictors.video_state import VideoState
from ...runtime.session import Into, Session
from .clicks import error_click, interior_point
from .datasets import Dataset, Truth, Video
from .metrics import FrameScore, Mask, Rule, mean_score, region_similarity, score_frame
from .protocols import (
    Annotated,
    ObjectResult,
    VideoResult,
    checked_truth,
    complete,
    scored,
)

Mode = Literal["offline", "online"]
#: below this IoU the user of the online mode stops and corrects
PAUSE_BELOW = 0.75


@dataclass(frozen=True)
class Effort:
    """clicks placed on a frame, rounds: frames clicked on; the paper's are 3 and 8."""

    clicks: int = 3
    rounds: int = 8

    def __post_init__(self) -> None:
        if self.clicks < 1 or self.rounds < 1:
            raise InputError(
                f"{self.clicks} clicks and {self.rounds} rounds: expected at least one of each"
            )


def interactive(
    session: Session,
    video: Video,
    dataset: Dataset,
    mode: Mode,
    effort: Effort,
    *,
    progress: Progress = silent,
) -> VideoResult:
    """Every object in turn; an object's `rounds` are its J&F after 1, 2, ... clicked frames.

    Its scores are those of the last round. Once nothing is left to correct, later rounds repeat
    the last value. Corrections last: each clicked frame is kept as a prompted one.
    """
    with EncoderCache(session) as cached:
        predictor = VideoPredictor(
            session.bundle,
            session=cached,
            fill_hole_area=0,
            add_all_frames_to_correct_as_cond=True,
        )
        state = predictor.init_state(video.frames())
        truths, annotated = _truths(video, state, dataset.merged)
        objects = {}
        ids = sorted({i for truth in truths.values() for i in truth.shown})
        for place, obj_id in enumerate(ids):
            progress("clicking", place, len(ids))
            own = {i: truths[i] for i in annotated.frames(obj_id)}
            run = _Run(predictor, state, obj_id, own, dataset.rule, video.spans.get(obj_id))
            objects[obj_id] = _offline(run, effort) if mode == "offline" else _online(run, effort)
    return VideoResult(objects, len(video.frame_names) * max(len(ids), 1))


@dataclass(frozen=True)
class _Packed:
    """The annotation of one frame, a bit per pixel: a long video's are needed again and again."""

    shown: dict[int, Array]
    void: Array | None

    @classmethod
    def of(cls, truth: Truth) -> _Packed:
        shown = {i: np.packbits(m) for i, m in truth.masks.items() if m.any()}
        return cls(shown, None if truth.void is None else np.packbits(truth.void))


def _unpacked(bits: Array | None, size: tuple[int, int]) -> Mask:
    if bits is None:
        return np.zeros(size, np.bool_)
    return np.unpackbits(bits, count=size[0] * size[1]).reshape(size).astype(np.bool_)


def _truths(video: Video, state: VideoState, merged: bool) -> tuple[dict[int, _Packed], Annotated]:
    truths, annotated = {}, Annotated(merged)
    for index in range(state.num_frames):
        truth = checked_truth(video, index, state.frame_size)
        annotated.add(index, truth)
        if truth is not None:
            truths[index] = _Packed.of(truth)
    return truths, annotated


class _Run:
    """One object under work: its truth, its clicks, its scores."""

    def __init__(
        self,
        predictor: VideoPredictor,
        state: VideoState,
        obj_id: int,
        truths: Mapping[int, _Packed],
        rule: Rule,
        span: tuple[int, int] | None,
    ) -> None:
        self.predictor, self.state, self.obj_id = predictor, state, obj_id
        self.truths, self.rule, self._span = truths, rule, span
        self.start = min(i for i, truth in truths.items() if obj_id in truth.shown)

    def reset(self) -> None:
        self.predictor.reset_state(self.state)

    def wanted(self, index: int) -> Mask:
        return _unpacked(self.truths[index].shown.get(self.obj_id), self.state.frame_size)

    def click(self, index: int, mask: Mask | None, clicks: int) -> Mask:
        """Place up to `clicks` clicks on a frame, the first for `mask`; gives the new mask."""
        wanted = self.wanted(index)
        for _ in range(clicks):
            click = interior_point(wanted) if mask is None else error_click(mask, wanted)
            if click is None:
                break
            _, _, logits = self.predictor.add_new_points_or_box(
                self.state,
                index,
                self.obj_id,
                [[click.x, click.y]],
                [click.label],
                clear_old_points=False,
            )
            mask = logits[0, 0] > 0
        assert mask is not None
        return mask

    def tracked(self) -> Iterator[tuple[int, Mask]]:
        for index, _, logits in self.predictor.propagate_in_video(self.state, self.start):
            yield index, logits[0, 0] > 0

    def score(self, index: int, mask: Mask) -> FrameScore:
        bits = self.truths[index].void
        void = None if bits is None else _unpacked(bits, self.state.frame_size)
        return score_frame(index, mask, self.wanted(index), void)

    def finished(self, scores: list[FrameScore]) -> ObjectResult:
        item = ObjectResult(self.start, (self.start, self.start), scores)
        complete(item, self._span, sorted(self.truths))
        return item

    def mean(self, item: ObjectResult) -> float | None:
        mean = mean_score(scored(item, self.rule))
        return None if mean is None else mean.jf


def _offline(run: _Run, effort: Effort) -> ObjectResult:
    run.reset()
    rounds: list[float] = []
    index, mask = run.start, None
    for _ in range(effort.rounds):
        run.click(index, mask, effort.clicks)
        scores: list[FrameScore] = []
        lowest = np.inf
        for t, tracked in run.tracked():
            if t in run.truths:
                scores.append(run.score(t, tracked))
                if scores[-1].j < lowest:
                    lowest, index, mask = scores[-1].j, t, tracked
        item = run.finished(scores)
        mean = run.mean(item)
        if mean is None:
            return item
        rounds.append(mean)
        if lowest == 1:
            break
    item.rounds = rounds + rounds[-1:] * (effort.rounds - len(rounds))
    return item


def _online(run: _Run, effort: Effort) -> ObjectResult:
    rounds: list[float] = []
    for most in range(1, effort.rounds + 1):
        item, used = _online_pass(run, effort.clicks, most)
        mean = run.mean(item)
        if mean is None:
            return item
        rounds.append(mean)
        if used < most:
            break
    item.rounds = rounds + rounds[-1:] * (effort.rounds - len(rounds))
    return item


def _online_pass(run: _Run, clicks: int, most: int) -> tuple[ObjectResult, int]:
    """One pass that stops for clicks on at most `most` frames; how many it needed."""
    run.reset()
    run.click(run.start, None, clicks)
    used, scores = 1, []
    for index, tracked in run.tracked():
        if index not in run.truths:
            continue
        mask, wrong = tracked, region_similarity(tracked, run.wanted(index)) < PAUSE_BELOW
        if wrong and used < most and index > run.start:
            mask, used = run.click(index, mask, clicks), used + 1
        scores.append(run.score(index, mask))
    return run.finished(scores), used


class EncoderCache(Session):
    """A session that remembers what it encoded, so that further passes skip the encoder.

    Keeps the newest results up to `limit` bytes; a plain session in all else. Closing it leaves
    the session inside open.
    """

    def __init__(self, session: Session, limit: int = 1 << 29) -> None:
        self.session, self.bundle, self.limit = session, session.bundle, limit
        self._kept: OrderedDict[bytes, dict[str, Array]] = OrderedDict()
        self._size = 0

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        if graph != "image_encoder":
            return self.session.run(graph, inputs)
        key = hashlib.blake2b(np.ascontiguousarray(inputs["image"]).data).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return dict(self._kept[key])
        outputs = self.session.run(graph, inputs)
        self._kept[key] = outputs
        self._size += _bytes(outputs)
        while self._size > self.limit:
            self._size -= _bytes(self._kept.popitem(last=False)[1])
        return dict(outputs)

    def close(self) -> None:
        self._kept.clear()
        self._size = 0


def _bytes(arrays: Mapping[str, Array]) -> int:
    return sum(a.nbytes for a in arrays.values())
