"""No result depends on memory that nobody wrote: what numpy gives without a value is poisoned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.export.verify import verify_bundle
from sam2rt.runtime.predictors.image import ImagePredictor
from sam2rt.runtime.predictors.mask_generator import MaskGenerator
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.predictors.video import VideoPredictor
from sam2rt.runtime.session import Session


def _frames() -> np.ndarray:
    frames = np.random.default_rng(0).integers(0, 80, (12, 90, 120, 3)).astype(np.uint8)
    for t, frame in enumerate(frames):
        frame[20 + t : 60 + t, 10 + 2 * t : 50 + 2 * t] = (60, 190, 230)
    return frames


def _image(bundle: Bundle, session: Session) -> list[Any]:
    with ImagePredictor(bundle, session=session) as predictor:
        predictor.set_image(_frames()[0])
        found = [predictor.predict(np.array([[30, 40]]), np.array([1]), return_logits=True)]
        found.append(predictor.predict(box=np.array([10, 20, 50, 60]), multimask_output=False))
    return [array for result in found for array in result]


def _stream(bundle: Bundle, session: Session) -> list[Any]:
    """Objects that come, are corrected and go: buffers grow and shrink."""
    found = []
    with StreamTracker(bundle, session=session, non_overlap_masks=True) as tracker:
        for t, frame in enumerate(_frames()):
            if t in (0, 3, 6):
                tracker.add_points(t, [[30 + 2 * t, 40 + t]], [1])
            if t == 4:
                tracker.add_box(0, [18, 24, 58, 64])
            if t == 8:
                tracker.remove_object(3)
            result = tracker.step(frame)
            found += [np.asarray(result.logits), result.object_scores, result.ious]
            found += list(result.each_mask())
    return found


def _video(bundle: Bundle, session: Session) -> list[Any]:
    with VideoPredictor(bundle, session=session) as predictor:
        state = predictor.init_state(_frames())
        mask = np.zeros((90, 120), bool)
        mask[20:60, 10:50] = True
        predictor.add_new_mask(state, 2, 1, mask)
        predictor.add_new_points_or_box(state, 5, 2, np.array([[40, 45]]), np.array([1]))
        forward = list(predictor.propagate_in_video(state))
        back = list(predictor.propagate_in_video(state, reverse=True))
    return [np.asarray(logits) for _, _, logits in forward + back]


def _automatic(bundle: Bundle, session: Session) -> list[Any]:
    generator = MaskGenerator(
        bundle, 3, session=session, pred_iou_thresh=0, stability_score_thresh=0, crop_n_layers=1
    )
    found = generator.generate(_frames()[0])
    return [len(found), *(record["segmentation"] for record in found)]


def _proof(bundle: Bundle, session: Session) -> list[Any]:
    return [repr(verify_bundle(bundle.path, threads=1)["outputs"])]


def _poisoned(make: Callable[..., Any], value: int, asked: list[Any]) -> Callable[..., Any]:
    """numpy's function, its array full of NaN or, for other kinds, of so many."""

    def made(*args: Any, **options: Any) -> Any:
        array = make(*args, **options)
        asked.append(array.shape)
        if array.dtype.kind in "fiub":
            array.fill(np.nan if array.dtype.kind == "f" and value else value)
        return array

    return made


@pytest.mark.parametrize("work", [_image, _stream, _video, _automatic, _proof])
def test_results_are_the_same_over_poison(
    work: Callable[[Bundle, Session], list[Any]],
    bundle: Bundle,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, asked = [], []
    for value in (0, 77):
        with monkeypatch.context() as patch:
            for name in ("empty", "empty_like"):
                patch.setattr(np, name, _poisoned(getattr(np, name), value, asked))
            found.append(work(bundle, session))
    clean, poisoned = found
    assert len(clean) == len(poisoned) > 0
    assert asked
    for one, other in zip(clean, poisoned, strict=True):
        np.testing.assert_array_equal(one, other)
