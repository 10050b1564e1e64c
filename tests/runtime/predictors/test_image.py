"""The image predictor around a session that answers what the test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_bundle import write_bundle

import sam2rt
from sam2rt import (
    FrameError,
    ImagePredictor,
    InputError,
    MissingExtraError,
    SessionError,
    StateError,
)
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config
from sam2rt.runtime.pixels.frame_tensor import image_tensor
from sam2rt.runtime.pixels.upsample import upsample_bilinear
from sam2rt.runtime.predictors import image
from sam2rt.runtime.predictors.image import single_masks
from sam2rt.runtime.predictors.image_prompts import image_prompts
from sam2rt.runtime.session import Into, Session, check_inputs

F32 = np.float32
CONFIG = model_config("micro")
SIDE = CONFIG.mask_size


class ScriptedSession(Session):
    """Checks inputs as every session does, keeps them, and decodes to the logits it was given."""

    def __init__(self) -> None:
        self.bundle: Any = SimpleNamespace(model=CONFIG)
        self.device = "imagined"
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.logits = np.random.default_rng(0).normal(size=(4, SIDE, SIDE)).astype(F32) * 30
        self.ious = np.array([0.1, 0.2, 0.9, 0.3], F32)
        self.closed = False

    def run(
        self, graph: str, inputs: Mapping[str, Any], into: Into | None = None
    ) -> dict[str, Any]:
        checked = check_inputs(graph_specs(CONFIG)[graph], inputs)
        self.calls.append((graph, checked))
        if graph == "image_encoder":
            n, h, c = len(checked["image"]), CONFIG.embed_size, CONFIG.hidden_dim
            marks = checked["image"][:, 0, 0, 0].reshape(n, 1, 1, 1)
            return {
                "image_embed": np.broadcast_to(marks, (n, c, h, h)),
                "prompt_embed": np.broadcast_to(marks + 1, (n, c, h, h)).copy(),
                "high_res_0": np.broadcast_to(marks, (n, c // 8, 4 * h, 4 * h)),
                "high_res_1": np.broadcast_to(marks, (n, c // 4, 2 * h, 2 * h)),
            }
        n = len(checked["point_coords"])
        return {
            "all_mask_logits": np.broadcast_to(self.logits, (n, 4, SIDE, SIDE)),
            "all_ious": np.broadcast_to(self.ious, (n, 4)),
        }

    @property
    def last(self) -> dict[str, Any]:
        return self.calls[-1][1]

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> ScriptedSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@pytest.fixture
def session() -> ScriptedSession:
    return ScriptedSession()


@pytest.fixture
def predictor(session: ScriptedSession) -> ImagePredictor:
    made = ImagePredictor(session.bundle, session=session)
    made.set_image(np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8))
    return made


def test_the_image_is_encoded_once_as_the_image_transform_makes_it(
    predictor: ImagePredictor, session: ScriptedSession
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    np.testing.assert_array_equal(session.last["image"], image_tensor(image, 256)[None])
    predictor.predict([[4, 5]], [1])
    predictor.predict(box=[1, 2, 3, 4])
    assert [graph for graph, _ in session.calls] == ["image_encoder"] + ["mask_decoder"] * 2


def test_a_click_in_the_decoder_s_pixels_with_the_padding_point(
    predictor: ImagePredictor, session: ScriptedSession
) -> None:
    predictor.predict([[20, 45], [80, 60]], [1, 0])
    np.testing.assert_array_equal(session.last["point_coords"], [[[64, 192], [256, 256], [0, 0]]])
    np.testing.assert_array_equal(session.last["point_labels"], [[1, 0, -1]])
    np.testing.assert_array_equal(session.last["has_mask_input"], [0])
    assert session.last["multimask_output"].tolist() == [True]
    # what the image predictor feeds is the embedding of a frame without memory
    embed = predictor.get_image_embedding()
    np.testing.assert_array_equal(session.last["conditioned_embed"], embed)


def test_a_box_comes_before_the_clicks(predictor: ImagePredictor, session: ScriptedSession) -> None:
    predictor.predict([[0.5, 0.5]], [0], box=[0, 0.25, 1, 0.75], normalize_coords=False)
    np.testing.assert_array_equal(
        session.last["point_coords"], [[[0, 64], [256, 192], [128, 128], [0, 0]]]
    )
    np.testing.assert_array_equal(session.last["point_labels"], [[2, 3, 0, -1]])


def test_without_points_or_box_there_is_no_padding_point(
    predictor: ImagePredictor, session: ScriptedSession
) -> None:
    low_res = predictor.predict()[2]
    assert session.last["point_coords"].shape == (1, 0, 2)
    assert session.last["has_mask_input"].tolist() == [0]
    for mask in (low_res[1:2], low_res[1], low_res[1][None, None]):
        predictor.predict(mask_input=mask)
        assert session.last["point_coords"].shape == (1, 0, 2)
        assert session.last["has_mask_input"].tolist() == [1]
        np.testing.assert_array_equal(session.last["mask_input"], low_res[None, 1:2])


def test_one_mask_serves_many_prompts(predictor: ImagePredictor, session: ScriptedSession) -> None:
    mask = predictor.predict()[2][:1]
    predictor.predict(box=[[1, 2, 30, 40], [5, 6, 7, 8]], mask_input=mask)
    np.testing.assert_array_equal(session.last["mask_input"], np.stack([mask, mask]))
    assert session.last["has_mask_input"].tolist() == [1, 1]


def test_results_for_three_masks(predictor: ImagePredictor, session: ScriptedSession) -> None:
    masks, ious, low_res = predictor.predict([[4, 5]], [1])
    full = upsample_bilinear(session.logits[1:], (60, 80))
    np.testing.assert_array_equal(masks, full > 0)
    np.testing.assert_array_equal(ious, session.ious[1:])
    # clamped only here: the masks come from the logits as they are
    assert np.abs(session.logits).max() > 32
    np.testing.assert_array_equal(low_res, session.logits[1:].clip(-32, 32))
    logits = predictor.predict([[4, 5]], [1], return_logits=True)[0]
    np.testing.assert_array_equal(logits, full)
    assert logits.dtype == ious.dtype == low_res.dtype == F32
    assert masks.dtype == np.bool_


def test_shapes_for_one_and_for_many_prompts(predictor: ImagePredictor) -> None:
    def shapes(**prompt: Any) -> list[tuple[int, ...]]:
        return [part.shape for part in predictor.predict(**prompt)]

    side = (SIDE, SIDE)
    boxes = np.array([[1, 2, 30, 40]] * 5)
    assert shapes(box=boxes) == [(5, 3, 60, 80), (5, 3), (5, 3, *side)]
    one = {"multimask_output": False}
    assert shapes(box=boxes, **one) == [(5, 1, 60, 80), (5, 1), (5, 1, *side)]
    assert shapes(box=boxes[:1]) == [(3, 60, 80), (3,), (3, *side)]
    assert shapes(box=boxes[0], **one) == [(1, 60, 80), (1,), (1, *side)]


@pytest.mark.parametrize("one", [0, np.bool_(False), np.array(False)])
def test_multimask_output_is_any_truth_value(predictor: ImagePredictor, one: Any) -> None:
    assert len(predictor.predict([[4, 5]], [1], multimask_output=one)[0]) == 1
    assert len(predictor.predict([[4, 5]], [1], multimask_output=1)[0]) == 3


def test_the_original_s_notebook_prints_the_embedding_s_shape(predictor: ImagePredictor) -> None:
    embed = predictor._features["image_embed"]
    np.testing.assert_array_equal(embed, predictor.get_image_embedding())
    assert (embed.shape, embed[-1].shape) == ((1, 64, 16, 16), (64, 16, 16))


def test_one_mask_is_the_first_where_stable_else_the_best_of_the_others(
    predictor: ImagePredictor, session: ScriptedSession
) -> None:
    session.logits[0] = -1.0
    session.logits[0, :10, :98] = 1.0  # 640 pixels in, none near the threshold
    masks, iou, low_res = predictor.predict([[4, 5]], [1], multimask_output=False)
    np.testing.assert_array_equal(low_res[0], session.logits[0])
    assert iou.tolist() == [session.ious[0]]
    session.logits[0, 30, :40] = 0.0  # in the wider mask, not in the narrower
    masks, iou, low_res = predictor.predict([[4, 5]], [1], multimask_output=False)
    np.testing.assert_array_equal(low_res[0], session.logits[2].clip(-32, 32))
    np.testing.assert_array_equal(masks[0], upsample_bilinear(session.logits[2], (60, 80)) > 0)
    assert iou.tolist() == [session.ious[2]]


@pytest.mark.parametrize(("near", "chosen"), [(0, 0), (1, 0), (2, 0), (3, 3)])
def test_the_stability_threshold_is_98_percent(near: int, chosen: int) -> None:
    """98 of 100 pixels is stable, 98 of 101 is not."""
    logits = np.full((1, 4, 20, 20), -5.0, F32)
    logits[0, 0].ravel()[:98] = 0.051
    logits[0, 0].ravel()[98 : 98 + near] = -0.049
    assert single_masks(logits, np.array([[0.9, 0.1, 0.2, 0.3]], F32), CONFIG) == [chosen]


def test_an_empty_mask_is_stable() -> None:
    logits = np.full((2, 4, 8, 8), -9.0, F32)
    assert single_masks(logits, np.ones((2, 4), F32), CONFIG).tolist() == [0, 0]


def test_threshold_holes_and_specks(session: ScriptedSession) -> None:
    session.logits[:] = -6.0
    session.logits[:, 8:40, 8:40] = 6.0
    session.logits[:, 20:22, 20:22] = -6.0  # a hole of 4
    session.logits[:, 50, 50:53] = 6.0  # a speck of 3
    arguments: Any = {"session": session, "mask_threshold": 1.5}
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)

    def predicted(hole: float, speck: float) -> Any:
        made = ImagePredictor(
            session.bundle, max_hole_area=hole, max_sprinkle_area=speck, **arguments
        )
        made.set_image(frame)
        masks, _, low_res = made.predict()
        logits = made.predict(return_logits=True)[0]
        np.testing.assert_array_equal(masks, logits > 1.5)
        np.testing.assert_array_equal(low_res, session.logits[1:])
        return logits[0]

    assert predicted(3, 2)[21, 21] == -6.0
    assert predicted(3, 2)[50, 51] == 6.0
    cleaned = predicted(4, 3)
    assert cleaned[21, 21] == 11.5
    assert cleaned[50, 51] == -8.5


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"point_coords": [[1, 2]]}, "points were given without labels"),
        ({"point_labels": [1]}, "labels were given without points"),
        ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, r"\[P, 2\] or \[N, P, 2\]"),
        ({"point_coords": [1, 2], "point_labels": [1]}, r"got shape \(2,\)"),
        ({"point_coords": np.zeros((0, 2)), "point_labels": [1]}, "without points"),
        ({"point_coords": [[1, 2]], "point_labels": [1, 0]}, r"expected \(1,\): one label"),
        ({"point_coords": [[1, 2]], "point_labels": [4]}, r"labels \[4.0\]: expected 1"),
        ({"point_coords": [[1, 2]], "point_labels": [0.5]}, r"labels \[0.5\]: expected 1"),
        ({"point_coords": [["a", 2]], "point_labels": [1]}, "must be an array of numbers"),
        ({"point_coords": [[np.nan, 2]], "point_labels": [1]}, "a point is NaN or infinite"),
        ({"point_coords": [[1, np.inf]], "point_labels": [1]}, "a point is NaN or infinite"),
        ({"point_coords": [[60, 70]], "point_labels": [1]}, "outside the image of width 80 and"),
        ({"point_coords": [[-9, 0]], "point_labels": [1]}, r"\[-9.0, 0.0\] lies outside"),
        ({"box": [1, 2, 3]}, r"box must be \[4\] or \[N, 4\]"),
        ({"box": [[], []], "point_labels": [1]}, "labels were given without points"),
        ({"box": [30, 2, 3, 40]}, r"box \[30.0, 2.0, 3.0, 40.0\] is empty or reversed"),
        ({"box": [[1, 2, 3, 4], [5, 6, 5, 9]]}, r"box \[5.0, 6.0, 5.0, 9.0\] is empty"),
        ({"box": [0, 0, 500, 20]}, r"the box corner \[500.0, 20.0\] lies outside"),
        ({"box": [0, 0, np.nan, 20]}, "a box corner is NaN"),
        (
            {"box": [[1, 2, 3, 4]] * 2, "point_coords": [[1, 2]], "point_labels": [1]},
            "1 sets of points but 2 boxes",
        ),
        ({"mask_input": np.zeros((3, SIDE, SIDE))}, r"low_res\[best\]\[None\]"),
        ({"mask_input": np.zeros((1, 60, 80))}, r"mask_input must be \[1, 64, 64\]"),
        ({"mask_input": np.zeros((1, SIDE, SIDE), bool)}, "got a bool mask"),
        ({"mask_input": np.full((1, SIDE, SIDE), np.nan)}, "holds NaN"),
        (
            {"box": [[1, 2, 3, 4]] * 3, "mask_input": np.zeros((2, 1, SIDE, SIDE))},
            "3 prompts but 2 masks",
        ),
    ],
)
def test_prompts_that_cannot_be_used_leave_the_predictor_usable(
    predictor: ImagePredictor, session: ScriptedSession, prompt: dict[str, Any], message: str
) -> None:
    calls = len(session.calls)
    with pytest.raises(InputError, match=message) as caught:
        predictor.predict(**prompt)
    assert "\n" not in str(caught.value)
    assert len(session.calls) == calls
    np.testing.assert_array_equal(predictor.predict([[4, 5]], [1])[1], session.ious[1:])


def test_a_box_may_overhang_the_image_a_little(
    predictor: ImagePredictor, session: ScriptedSession
) -> None:
    predictor.predict(box=[-4, -3, 84, 63])
    np.testing.assert_allclose(
        session.last["point_coords"][0, :2], [[-12.8, -12.8], [268.8, 268.8]], rtol=1e-6
    )


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "a.png"])
def test_an_unusable_image_leaves_the_one_before(predictor: ImagePredictor, image: Any) -> None:
    with pytest.raises(FrameError):
        predictor.set_image(image)
    with pytest.raises(FrameError, match="image 1: "):
        predictor.set_image_batch([np.zeros((4, 4, 3), np.uint8), image])
    assert predictor.predict()[0].shape == (3, 60, 80)


def test_calls_out_of_order(session: ScriptedSession) -> None:
    predictor = ImagePredictor(session.bundle, session=session)
    frame = np.zeros((6, 8, 3), np.uint8)
    assert not predictor.is_image_set
    for call in (predictor.predict, predictor.get_image_embedding):
        with pytest.raises(StateError, match="call set_image first"):
            call()
    with pytest.raises(StateError, match="call set_image_batch first"):
        predictor.predict_batch()
    predictor.set_image_batch([frame])
    with pytest.raises(StateError, match="call predict_batch"):
        predictor.predict()
    predictor.set_image(frame)
    assert predictor.is_image_set
    with pytest.raises(StateError, match="call set_image_batch first"):
        predictor.predict_batch()
    predictor.reset_predictor()
    assert not predictor.is_image_set


def test_batches_that_do_not_fit_their_images(session: ScriptedSession) -> None:
    predictor = ImagePredictor(session.bundle, session=session)
    with pytest.raises(InputError, match="no image was given"):
        predictor.set_image_batch([])
    predictor.set_image_batch([np.zeros((6, 8, 3), np.uint8)] * 2)
    with pytest.raises(InputError, match="box_batch has 1 items for 2 images"):
        predictor.predict_batch(box_batch=[[0, 0, 4, 4]])


def test_each_image_of_a_batch_meets_its_own_embedding(session: ScriptedSession) -> None:
    """Seven images take two encoder calls; each is told apart by its first pixel."""
    frames = [np.full((6, 8, 3), 30 * i, np.uint8) for i in range(7)]
    predictor = ImagePredictor(session.bundle, session=session)
    predictor.set_image_batch(frames)
    assert [len(inputs["image"]) for _, inputs in session.calls] == [4, 3]
    predictor.predict_batch()
    fed = [inputs["high_res_0"][0, 0, 0, 0] for _, inputs in session.calls[2:]]
    assert fed == [image_tensor(frame, 256)[0, 0, 0] for frame in frames]


def test_a_lent_session_stays_open_and_names_the_device(session: ScriptedSession) -> None:
    with ImagePredictor(session.bundle, session=session) as predictor:
        assert predictor.device == "imagined"
    assert not session.closed


def test_from_pretrained_takes_a_bundle_folder(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_bundle(tmp_path / "bundle")
    predictor = ImagePredictor.from_pretrained(tmp_path / "bundle", mask_threshold=0.5)
    assert predictor.bundle.path == tmp_path / "bundle"
    assert predictor.mask_threshold == 0.5


def test_from_pretrained_asks_the_front_door_for_names(
    session: ScriptedSession, monkeypatch: Any
) -> None:
    asked = []

    def bundle_for(name: str) -> Any:
        asked.append(name)
        return session.bundle

    monkeypatch.setattr(sam2rt, "bundle_for", bundle_for, raising=False)
    made = ImagePredictor.from_pretrained("facebook/sam2.1-hiera-tiny", session=session)
    assert asked == ["facebook/sam2.1-hiera-tiny"]
    assert made.bundle is session.bundle


def test_from_pretrained_without_the_exporter_names_the_extra(monkeypatch: Any) -> None:
    def bundle_for(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(sam2rt, "bundle_for", bundle_for, raising=False)
    with pytest.raises(MissingExtraError, match=r"needs the package 'torch'.*sam2rt\[export\]"):
        ImagePredictor.from_pretrained("facebook/sam2.1-hiera-tiny")


def in_thread(work: Callable[[], Any]) -> Any:
    """What `work` gives or raises in a thread named "other"."""
    got: list[Any] = []

    def run() -> None:
        try:
            got.append(work())
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=run, name="other")
    thread.start()
    thread.join()
    return got[0]


@pytest.mark.parametrize("call", ["predict", "predict_batch", "get_image_embedding"])
def test_an_image_set_by_another_thread_is_refused(predictor: ImagePredictor, call: str) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    given = {"point_coords": [[1, 1]], "point_labels": [1]} if call == "predict" else {}
    setting = (
        (lambda: predictor.set_image_batch([image]))
        if call == "predict_batch"
        else (lambda: predictor.set_image(image))
    )
    setting()
    refused = in_thread(lambda: getattr(predictor, call)(**given))
    assert isinstance(refused, StateError)
    assert str(refused) == (
        "the image was set by thread MainThread, this is other: make a predictor for each "
        "thread, with session= they share one"
    )
    in_thread(setting)
    with pytest.raises(StateError, match="was set by thread other, this is MainThread"):
        getattr(predictor, call)(**given)
    setting()
    getattr(predictor, call)(**given)


def test_setting_an_image_waits_for_a_prediction(
    session: ScriptedSession, predictor: ImagePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of one image with the features of another would be a silent mix-up."""
    frames = [np.full((32, 48, 3), 10, np.uint8), np.full((20, 20, 3), 200, np.uint8)]
    other = threading.Thread(target=lambda: predictor.set_image(frames[1]))
    predictor.set_image(frames[0])

    def slowly(*given: Any, **named: Any) -> Any:
        # the size was read, the features were not
        other.start()
        other.join(0.3)
        return image_prompts(*given, **named)

    monkeypatch.setattr(image, "image_prompts", slowly)
    masks, _, _ = predictor.predict([[1, 1]], [1])
    other.join()
    assert masks.shape == (3, 32, 48)
    (decoded,) = [inputs for graph, inputs in session.calls if graph == "mask_decoder"]
    assert decoded["high_res_0"][0, 0, 0, 0] == image_tensor(frames[0], 256)[0, 0, 0]


@pytest.mark.parametrize("where", ["logits", "ious"])
def test_what_is_no_number_is_no_mask(
    session: ScriptedSession, predictor: ImagePredictor, where: str
) -> None:
    predictor.set_image(np.zeros((32, 32, 3), np.uint8))
    getattr(session, where)[2] = np.nan
    name = "mask_logits" if where == "logits" else "iou"
    with pytest.raises(SessionError, match=f"^image 0, object 1: the graphs gave NaN or .* {name}"):
        predictor.predict([[1, 1]], [1])
