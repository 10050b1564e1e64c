"""Objects found by automatic masks, with the model that goes by colour."""

from __future__ import annotations

from colour_model import BLUE, GREEN, RED, Clip, ColourSession

from sam2rt.benchmarks.evaluation.automatic import Recall, automatic_recall
from sam2rt.benchmarks.evaluation.datasets import Dataset
from sam2rt.benchmarks.evaluation.metrics import RULES

ONE, TWO, SMALL = (20, 20, 100, 80), (140, 120, 220, 200), (120, 40, 128, 48)
SETTINGS = {"points_per_side": 8}


def dataset(*clips: Clip) -> Dataset:
    return Dataset("test", RULES["synthetic"], clips)


def test_objects_under_a_point_are_found() -> None:
    shapes = (((RED, ONE), (GREEN, TWO)),)
    clip = Clip("both", shapes, {0: {1: ONE, 2: TWO, 3: None}})
    assert automatic_recall(ColourSession(), dataset(clip), SETTINGS) == Recall(2, ())


def test_an_object_between_the_points_is_missed() -> None:
    """Points lie 32 pixels apart, first at 16: none hits columns 120 to 127."""
    shapes = (((RED, ONE), (BLUE, SMALL)),)
    clip = Clip("small", shapes, {0: {1: ONE, 2: SMALL}})
    found = automatic_recall(ColourSession(), dataset(clip), SETTINGS)
    assert (found.objects, found.share) == (2, 0.5)
    ((video, obj_id, best),) = found.missed
    assert (video, obj_id) == ("small", 2)
    assert best < 0.01
    # eight pixels are two of the mask's own: never a stable outline
    fine = {"points_per_side": 64, "stability_score_thresh": 0.5}
    assert automatic_recall(ColourSession(), dataset(clip), fine).share == 1


def test_two_objects_of_one_colour_are_one_mask() -> None:
    shapes = (((RED, ONE), (RED, TWO)),)
    clip = Clip("twins", shapes, {0: {1: ONE, 2: TWO}})
    found = automatic_recall(ColourSession(), dataset(clip), SETTINGS)
    assert found.share == 0
    assert {round(iou, 1) for _, _, iou in found.missed} == {0.4, 0.6}


def test_videos_without_objects_on_the_first_frame() -> None:
    clips = (Clip("none", (((RED, ONE),),), {}), Clip("later", (((RED, ONE),),), {0: {1: None}}))
    assert automatic_recall(ColourSession(), dataset(*clips)).share is None
