"""CVAT's own loader, worker process and drivers run our functions; no server is needed for that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cvat_cli", reason="needs cvat-cli, which wants Python 3.11: pip install it")

import cvat_sdk.auto_annotation as cvataa
from cvat_cli._internal import agent
from cvat_cli._internal.agent_driver import BadArError, IncompatibleFunctionError
from cvat_cli._internal.common import FunctionLoader
from cvat_cli._internal.parsers import parse_function_parameter
from cvat_sdk.masks import decode_mask, encode_mask

from sam2rt.configs.errors import InputError
from sam2rt.serving.labelling import cvat
from sam2rt.serving.labelling.outlines import edges_of, mask_of_polygon, polygons_of

MODULE = "sam2rt.serving.labelling.cvat"
TASK = 7


class Driver:
    """CVAT's driver of a function in CVAT's worker process; frames come from an array."""

    def __init__(self, words: list[str], frames: Any) -> None:
        loader = FunctionLoader(MODULE, None, dict(map(parse_function_parameter, words)))
        self.executor = agent.RecoverableExecutor(
            agent._worker_init, [loader, agent._default_tracking_state_id_generator]
        )
        spec = self.executor.result(self.executor.submit(agent._worker_job_get_function_spec))
        self.driver = agent.get_function_driver_class(spec)(None, self.executor, spec)
        self.driver._get_sample_from_ar_params = lambda params: (
            SimpleNamespace(
                media=SimpleNamespace(load_image=lambda: Image.fromarray(frames[params["frame"]]))
            ),
            None,
        )

    def ask(self, kind: str, **params: Any) -> Any:
        """The answer to an annotation request, as the agent sends it to the server."""
        asked = {"type": kind, "task": TASK, **params}
        return self.driver.calculate_result_for_ar(asked, lambda **_: None)


@contextmanager
def running(frames: Any, bundle: Any, kind: str) -> Iterator[Driver]:
    words = [f"bundle=str:{bundle.path}", f"kind=str:{kind}", "threads=int:1"]
    made = Driver(words, frames)
    with made.executor:
        yield made


@pytest.fixture(scope="module")
def tracker(clip, built_in) -> Iterator[Driver]:
    with running(clip.frames, built_in, "tracker") as driver:
        yield driver


@pytest.fixture(scope="module")
def interactor(clip, built_in) -> Iterator[Driver]:
    with running(clip.frames, built_in, "interactor") as driver:
        yield driver


def size_of(clip: Any) -> tuple[int, int]:
    return clip.frames.shape[1:3]


def decoded(points: list[float], clip: Any) -> Any:
    height, width = size_of(clip)
    return decode_mask(points, image_width=width, image_height=height)


def followed(driver: Driver, shapes: list[dict[str, Any]], frames: int) -> list[list[Any]]:
    """The answers for each frame after the first, in the order of the shapes."""
    states = driver.ask("init_tracking", frame=0, shapes=shapes)["states"]
    answers = []
    for frame in range(1, frames):
        answer = driver.ask("track", frame=frame, states=states)
        states = answer["states"]
        answers.append(answer["shapes"])
    return answers


def test_masks_of_a_clip_are_those_of_the_video_predictor(tracker, clip, tracked):
    prompts = [clip.labels[0] == 1, clip.labels[0] == 2]
    shapes = [{"type": "mask", "points": encode_mask(mask)} for mask in prompts]
    answers = followed(tracker, shapes, len(clip.frames))
    expected = tracked(*({"mask": mask} for mask in prompts))
    assert len(answers) == len(expected) - 1 == 19
    for frame, (found, masks) in enumerate(zip(answers, expected[1:], strict=True), 1):
        for shape, mask, number in zip(found, masks, (1, 2), strict=True):
            assert shape["type"] == "mask"
            np.testing.assert_array_equal(decoded(shape["points"], clip), mask)
            true = clip.labels[frame] == number
            assert (mask & true).sum() / (mask | true).sum() > 0.8


def test_rectangles_and_polygons_follow_the_same_object(tracker, clip, tracked):
    mask = clip.labels[0] == 2
    box = list(edges_of(mask))
    polygon = polygons_of(mask)[0].ravel().tolist()
    shapes = [{"type": "rectangle", "points": box}, {"type": "polygon", "points": polygon}]
    answers = followed(tracker, shapes, 6)
    boxed = tracked({"box": box})
    outlined = tracked({"mask": mask_of_polygon(polygon, size_of(clip))})
    for frame in range(1, 6):
        rectangle, outline = answers[frame - 1]
        assert rectangle["points"] == list(edges_of(boxed[frame][0]))
        filled = mask_of_polygon(outline["points"], size_of(clip))
        true = outlined[frame][0]
        assert (filled & true).sum() / (filled | true).sum() > 0.95
        assert (rectangle["type"], outline["type"]) == ("rectangle", "polygon")


def test_an_object_that_left_is_none(tracker, clip, model):
    """Black frames show nothing; the state goes on all the same."""
    size = size_of(clip)
    function = cvat.CvatTracker(model)
    shape = cvataa.TrackableShape(type="mask", points=encode_mask(clip.labels[0] == 1))
    first = function.preprocess_image(None, Image.fromarray(clip.frames[0]))
    state = function.init_tracking_state(None, first, shape)
    black = function.preprocess_image(None, Image.new("RGB", size[::-1]))
    assert function.track(None, black, state) is None
    assert state.object.frame_idx == 2


@pytest.mark.parametrize("kind", ["one point", "two points", "a box", "a box and a point"])
def test_clicks_are_answered_as_by_the_image_predictor(kind, interactor, clip, segmented):
    inside, outside = centre(clip.labels[0] == 2), centre(clip.labels[0] == 1)
    edges = edges_of(clip.labels[0] == 2)
    box = [list(edges[:2]), list(edges[2:])] if "box" in kind else []
    positive = [] if kind == "a box" else [inside]
    negative = [outside] if kind == "two points" else []
    answer = interactor.ask(
        "interact", frame=0, pos_points=positive, neg_points=negative, obj_bbox=box
    )
    expected, score = segmented(
        positive + negative, [1] * len(positive) + [0] * len(negative), edges if box else None
    )
    (shape,) = answer["shapes"]
    assert shape["type"] == "mask"
    np.testing.assert_array_equal(decoded(shape["points"], clip), expected)
    (confidence,) = shape["attributes"]
    assert confidence["spec_id"] == cvataa.InteractionResultAttributes.CONFIDENCE
    assert float(confidence["value"]) == pytest.approx(min(score, 1), abs=1e-4)


def centre(mask: Any) -> list[float]:
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return [float(columns[nearest]), float(rows[nearest])]


def test_images_kept_by_the_agent_do_not_mix(interactor, clip, model):
    """The agent encodes an image once and asks for it again after others."""
    function = cvat.CvatInteractor(model)
    kept = [function.preprocess_image(None, Image.fromarray(clip.frames[t])) for t in (0, 10)]
    prompts = SimpleNamespace(
        pos_points=[centre(clip.labels[0] == 2)], neg_points=[], bounding_box=None
    )
    first = [function.detect(None, image, prompts) for image in kept]
    again = [function.detect(None, image, prompts) for image in kept]
    assert [a[0].points for a in first] == [a[0].points for a in again]
    assert first[0][0].points != first[1][0].points


def test_grey_and_transparent_images_are_taken(model, clip):
    function = cvat.CvatTracker(model)
    picture = Image.fromarray(clip.frames[0])
    for mode in ("L", "RGBA", "P"):
        frame = function.preprocess_image(None, picture.convert(mode))
        assert frame.size == size_of(clip)


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        (("mask", [1, 2]), "the mask cannot be decoded (too few elements in encoded mask)"),
        (("mask", [9, 0, 0, 1, 1]), "the mask cannot be decoded (encoded bitmap does not match"),
        (("polygon", [1, 2, 3, 4]), "a polygon of 2 points: expected at least three"),
        (("polygon", [1, 2, 3]), "a polygon is x, y, x, y, ...: expected pairs"),
        (("rectangle", [9, 9, 9, 9]), "box [9.0, 9.0, 9.0, 9.0] is empty or reversed"),
        (("ellipse", [1, 2, 3, 4]), "a shape of type 'ellipse': expected mask, polygon or"),
    ],
)
def test_a_wrong_shape_is_one_line_that_the_agent_hands_on(shape, line, model, clip):
    function = cvat.CvatTracker(model)
    frame = function.preprocess_image(None, Image.fromarray(clip.frames[0]))
    wrong = cvataa.TrackableShape(type=shape[0], points=shape[1])
    with pytest.raises(cvataa.BadFunctionError, match=re.escape(line)) as caught:
        function.init_tracking_state(None, frame, wrong)
    assert "\n" not in str(caught.value)


def test_wrong_prompts_are_one_line_through_the_worker(interactor):
    """The class survives the way between processes, or the agent would say 'Unknown error'."""
    line = "no prompt: give a positive point, a box, or both"
    with pytest.raises(cvataa.BadFunctionError, match=line):
        interactor.ask("interact", frame=0, pos_points=[], neg_points=[[3, 3]], obj_bbox=[])
    line = r"the point \[9999.0, 3.0\] lies outside the image"
    with pytest.raises(cvataa.BadFunctionError, match=line):
        interactor.ask("interact", frame=0, pos_points=[[9999, 3]], neg_points=[], obj_bbox=[])


def test_a_state_of_another_task_or_an_unknown_one_is_refused_by_the_agent(tracker):
    with pytest.raises(BadArError, match="not found"):
        tracker.ask("track", frame=1, states=["none"])


def test_the_server_is_told_what_the_functions_take(tracker, interactor):
    fields = tracker.driver.get_remote_function_fields(tracker.driver._function_spec)
    assert fields == {"supported_shape_types": ["mask", "polygon", "rectangle"]}
    assert (tracker.driver.FUNCTION_KIND, interactor.driver.FUNCTION_KIND) == (
        "tracker",
        "interactor",
    )
    fields = interactor.driver.get_remote_function_fields(interactor.driver._function_spec)
    assert fields == {"min_pos_points": 0, "min_neg_points": 0, "startswith_box_optional": True}
    with pytest.raises(IncompatibleFunctionError, match="points"):
        tracker.driver.validate_function_compatibility(
            {"supported_shape_types": ["mask", "points"]}
        )


def test_wrong_parameters_are_one_line(built_in, tmp_path):
    with pytest.raises(InputError, match="kind is 'x': expected tracker or interactor"):
        cvat.create(str(built_in.path), kind="x")
    with pytest.raises(InputError, match="no bundle is named: give '-p bundle=str:FOLDER'"):
        FunctionLoader(MODULE, None, {}).load()
    with pytest.raises(InputError, match=r"tolerance is -1: expected"):
        cvat.create(str(built_in.path), tolerance=-1)
