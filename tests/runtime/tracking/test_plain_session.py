"""A backend that fills in nothing but ``run``: trackers and predictors give the usual bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from square_clip import BOX, CLICK, moving_square

from sam2rt import ImagePredictor, InputError, MaskGenerator, StreamTracker, VideoPredictor
from sam2rt.configs.graphs import TRACK_STEP, graph_specs
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession
from sam2rt.runtime.bank import SlotBuffer
from sam2rt.runtime.session import Into, Session, SessionWrapper

Arrays = Mapping[str, np.ndarray]


class RunOnly(Session):
    """The least a session can be."""

    def __init__(self, inner: Session) -> None:
        self.bundle, self._inner = inner.bundle, inner

    def run(self, graph: str, inputs: Arrays, into: Into | None = None) -> dict[str, Any]:
        assert into is None
        return self._inner.run(graph, inputs)


@pytest.fixture(scope="module")
def separate(session: OnnxRuntimeSession) -> Iterator[OnnxRuntimeSession]:
    """ONNX Runtime on the separate graphs alone."""
    graphs = {name: g for name, g in session.bundle.graphs.items() if name != TRACK_STEP}
    with OnnxRuntimeSession(replace(session.bundle, graphs=graphs), threads=1) as opened:
        assert not opened.fused
        yield opened


@pytest.fixture(scope="module")
def pair(session: OnnxRuntimeSession, separate: OnnxRuntimeSession) -> tuple[Session, Session]:
    return RunOnly(session), separate


def test_what_is_not_filled_in_is_plain(session: OnnxRuntimeSession) -> None:
    plain = RunOnly(session)
    assert (plain.device, plain.fused, plain.per_object) == ("cpu", False, False)
    assert (plain.max_objects, plain.max_images, plain.overlaps) == (None, None, True)
    assert plain.graphs == tuple(graph_specs(session.bundle.model))
    assert type(plain.slot_buffer()) is SlotBuffer
    assert plain.pixels() is None
    with plain as entered:
        assert entered is plain
    with pytest.raises(TypeError, match="abstract"):
        Session()  # type: ignore[abstract]


def test_a_stream_is_tracked(pair: tuple[Session, Session]) -> None:
    found = []
    for used in pair:
        with StreamTracker(used.bundle, session=used) as tracker:
            for obj_id in range(6):
                tracker.add_points(obj_id, **(BOX if obj_id % 2 else CLICK))
            found.append([tracker.step(frame).logits for frame in moving_square(9)])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("option", [{}, {"objects_per_call": 1}])
def test_a_video_is_propagated(pair: tuple[Session, Session], option: dict[str, Any]) -> None:
    found = []
    for used in pair:
        predictor = VideoPredictor(used.bundle, session=used, **option)
        state = predictor.init_state(moving_square(9))
        predictor.add_new_points_or_box(state, 0, 1, **CLICK)
        predictor.add_new_points_or_box(state, 4, 2, **BOX)
        list(predictor.propagate_in_video(state))
        # a correction attends to what was remembered
        predictor.add_new_points_or_box(state, 6, 1, points=[[40, 40]], labels=[1])
        found.append([logits for _, _, logits in predictor.propagate_in_video(state)])
    np.testing.assert_array_equal(*found)


def test_images_are_segmented(pair: tuple[Session, Session]) -> None:
    found = []
    for used in pair:
        image = ImagePredictor(used.bundle, session=used)
        assert image.device == "cpu"
        image.set_image_batch(list(moving_square(6)))
        masks, ious, low = image.predict_batch(box_batch=[[2, 3, 40, 30]] * 6)
        found.append((masks, ious, low))
        generator = MaskGenerator(
            used.bundle, points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0,
            session=used,
        )  # fmt: skip
        assert generator.generate(moving_square(1)[0])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_wrapper_has_the_capabilities_of_what_is_inside() -> None:
    """Each property and method of the form but `run`, `close` and entering is passed on."""
    own = {"run", "close"}
    for name in vars(Session):
        if not name.startswith("_") and name not in {*own, "bundle", "device"}:
            assert name in vars(SessionWrapper), name

    class Full(RunOnly):
        device = "cuda:1"
        fused = per_object = True
        overlaps = False
        max_objects, max_images, graphs = 3, 2, ("image_encoder",)
        slot_buffer = pixels = together = lambda self: "its own"

        def __init__(self) -> None:
            self.bundle = "a bundle"  # type: ignore[assignment]
            self.closed = False

        def close(self) -> None:
            self.closed = True

    full = Full()
    with SessionWrapper(full) as wrapped:
        for name in ("bundle", "device", "fused", "per_object", "overlaps", "max_objects",
                     "max_images", "graphs"):  # fmt: skip
            assert getattr(wrapped, name) == getattr(full, name), name
        assert (wrapped.slot_buffer(), wrapped.pixels()) == ("its own", "its own")
        assert wrapped.together() == "its own"
    assert not full.closed


def test_what_only_looks_like_a_session_is_refused(session: OnnxRuntimeSession) -> None:
    class Alike:
        bundle = session.bundle

        def run(self, graph: str, inputs: Arrays) -> dict[str, Any]:
            return {}

    with pytest.raises(InputError, match="expected an open session, or backend and device"):
        StreamTracker(session.bundle, session=Alike())  # type: ignore[arg-type]
