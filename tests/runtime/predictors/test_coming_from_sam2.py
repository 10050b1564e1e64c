"""The original's signatures: each argument is taken with its default, or the page says why not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colour_model import ColourSession

from sam2rt import ImagePredictor, InputError, MaskGenerator, StateError, VideoPredictor
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.session import SessionWrapper

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "coming_from_sam2.md").read_text()
#: what the page says of each argument, as `Owner(argument)` in the first column
ROWS = {
    (owner, argument)
    for row in re.findall(r"^\| (.*?) \|", PAGE, re.M)
    for owner, argument in re.findall(r"`(\w+)\((\w+)\)`", row)
}

NEEDED = inspect.Parameter.empty
_PROMPTS = {"multimask_output": True, "return_logits": False, "normalize_coords": True}
_OBJECT = {"inference_state": NEEDED, "frame_idx": NEEDED, "obj_id": NEEDED}
#: facebookresearch/sam2 at 2b90b9f, what its classes and builders take
IMAGE: dict[str, dict[str, Any]] = {
    "__init__": {
        "sam_model": NEEDED, "mask_threshold": 0.0, "max_hole_area": 0.0, "max_sprinkle_area": 0.0,
    },
    "from_pretrained": {"model_id": NEEDED},
    "set_image": {"image": NEEDED},
    "set_image_batch": {"image_list": NEEDED},
    "predict": {
        "point_coords": None, "point_labels": None, "box": None, "mask_input": None, **_PROMPTS,
    },
    "predict_batch": {
        "point_coords_batch": None, "point_labels_batch": None, "box_batch": None,
        "mask_input_batch": None, **_PROMPTS,
    },
    "get_image_embedding": {},
    "reset_predictor": {},
}  # fmt: skip
VIDEO: dict[str, dict[str, Any]] = {
    "__init__": {
        "fill_hole_area": 0, "non_overlap_masks": False, "clear_non_cond_mem_around_input": False,
        "add_all_frames_to_correct_as_cond": False,
    },
    "from_pretrained": {"model_id": NEEDED},
    "init_state": {
        "video_path": NEEDED, "offload_video_to_cpu": False, "offload_state_to_cpu": False,
        "async_loading_frames": False,
    },
    "add_new_points_or_box": {
        **_OBJECT, "points": None, "labels": None, "clear_old_points": True,
        "normalize_coords": True, "box": None,
    },
    "add_new_points": {},
    "add_new_mask": {**_OBJECT, "mask": NEEDED},
    "propagate_in_video_preflight": {"inference_state": NEEDED},
    "propagate_in_video": {
        "inference_state": NEEDED, "start_frame_idx": None, "max_frame_num_to_track": None,
        "reverse": False,
    },
    "clear_all_prompts_in_frame": {**_OBJECT, "need_output": True},
    "reset_state": {"inference_state": NEEDED},
    "remove_object": {
        "inference_state": NEEDED, "obj_id": NEEDED, "strict": False, "need_output": True,
    },
}  # fmt: skip
MASKS: dict[str, dict[str, Any]] = {
    "__init__": {
        "model": NEEDED, "points_per_side": 32, "points_per_batch": 64, "pred_iou_thresh": 0.8,
        "stability_score_thresh": 0.95, "stability_score_offset": 1.0, "mask_threshold": 0.0,
        "box_nms_thresh": 0.7, "crop_n_layers": 0, "crop_nms_thresh": 0.7,
        "crop_overlap_ratio": 512 / 1500, "crop_n_points_downscale_factor": 1,
        "point_grids": None, "min_mask_region_area": 0, "output_mode": "binary_mask",
        "use_m2m": False, "multimask_output": True,
    },
    "from_pretrained": {"model_id": NEEDED},
    "generate": {"image": NEEDED},
}  # fmt: skip
#: of all four builders; what they take is an argument of the classes here
BUILDERS: dict[str, Any] = {
    "config_file": NEEDED, "ckpt_path": None, "device": "cuda", "mode": "eval",
    "hydra_overrides_extra": [], "apply_postprocessing": True, "vos_optimized": False,
}  # fmt: skip
CLASSES: list[tuple[str, Any, dict[str, dict[str, Any]]]] = [
    ("SAM2ImagePredictor", ImagePredictor, IMAGE),
    ("SAM2VideoPredictor", VideoPredictor, VIDEO),
    ("SAM2AutomaticMaskGenerator", MaskGenerator, MASKS),
]
ARGUMENTS = [
    (name if method == "__init__" else method, argument, default, ours, method)
    for name, ours, methods in CLASSES
    for method, arguments in methods.items()
    for argument, default in arguments.items()
] + [
    ("build_sam2", argument, default, ours, "__init__")
    for argument, default in BUILDERS.items()
    for ours in (ImagePredictor, VideoPredictor, MaskGenerator)
]  # fmt: skip


def holds(default: Any, ours: Any, method: str, argument: str) -> bool:
    """Whether it is taken, left out alike; a model is needed under one of its two names."""
    found = inspect.signature(getattr(ours, method)).parameters.get(argument)
    if found is None:
        return False
    return found.default == default or (argument in ("sam_model", "model") and not found.default)


@pytest.mark.parametrize(
    ("owner", "argument", "default", "ours", "method"),
    ARGUMENTS,
    ids=[f"{owner}-{argument}-{ours.__name__}" for owner, argument, _, ours, _ in ARGUMENTS],
)
def test_an_argument_is_taken_or_stands_on_the_page(
    owner: str, argument: str, default: Any, ours: Any, method: str
) -> None:
    assert holds(default, ours, method, argument) != ((owner, argument) in ROWS)


def test_the_page_speaks_of_no_argument_that_is_not_there() -> None:
    assert len(ROWS) == 7
    assert {(owner, argument) for owner, argument, *_ in ARGUMENTS} >= ROWS


def test_every_method_is_there_in_the_originals_order() -> None:
    for _, ours, methods in CLASSES:
        for method, arguments in methods.items():
            if method == "__init__":
                continue
            taken = list(inspect.signature(getattr(ours, method)).parameters)
            assert [name for name in taken if name in arguments] == list(arguments), method


@pytest.fixture
def colours() -> ColourSession:
    return ColourSession()


FRAME = np.full((60, 80, 3), 90, np.uint8)


def test_a_model_under_the_originals_names(colours: ColourSession) -> None:
    image = ImagePredictor(sam_model=colours.bundle, session=colours)
    masks = MaskGenerator(model=colours.bundle, session=colours, points_per_side=2)
    assert image.bundle is masks.predictor.bundle is colours.bundle
    for made, name in ((ImagePredictor, "sam_model"), (MaskGenerator, "model")):
        with pytest.raises(InputError, match=f"bundle and {name} were both given: .* give one"):
            made(colours.bundle, **{name: colours.bundle})
        with pytest.raises(InputError, match=r"^bundle is None: expected what Bundle"):
            made()


STATE_KEYS = {
    "num_frames": 3, "video_height": 60, "video_width": 80, "obj_ids": [7, 4],
    "obj_id_to_idx": {7: 0, 4: 1}, "obj_idx_to_id": {0: 7, 1: 4},
}  # fmt: skip


def test_the_state_is_read_as_the_originals(colours: ColourSession) -> None:
    video = VideoPredictor(colours.bundle, session=colours)
    state = video.init_state(np.stack([FRAME] * 3))
    for obj_id in (7, 4):
        video.add_new_points_or_box(state, 0, obj_id, [[20, 20]], [1])
    assert {key: state[key] for key in STATE_KEYS} == STATE_KEYS
    assert "obj_ids" in state
    assert "images" not in state
    for key in ("images", 0, []):
        with pytest.raises(InputError, match=r"has no key .*: expected one of num_frames, video_"):
            state[key]
    state["obj_ids"].append(9)
    assert state.obj_ids == [7, 4]


class Noted(SessionWrapper):
    """Keeps what graphs were asked. The decoder's first mask is unstable, its chosen one marked."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.asked: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    def run(self, graph: str, inputs: Any, into: Any = None) -> dict[str, Any]:
        out = super().run(graph, inputs, into)
        if graph == "mask_decoder" and not inputs["multimask_output"][0]:
            marked = {name: np.full_like(out[name], 123) for name in ("mask_logits", "iou")}
            near = out["all_mask_logits"] * np.float32(1e-3)
            out = {**out, **marked, "all_mask_logits": near}
        self.asked.append((graph, dict(inputs), out))
        return out

    def of(self, graph: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [(inputs, out) for name, inputs, out in self.asked if name == graph]


@pytest.fixture
def noted(session: Any) -> Noted:
    return Noted(session)


def test_without_postprocessing_one_mask_is_the_first(noted: Noted) -> None:
    rgb = np.random.default_rng(3).integers(0, 255, (60, 80, 3), np.uint8)
    boxes = np.array([[x, 5, x + 30, 50] for x in range(0, 48, 6)])
    found = {}
    for apply in (True, False):
        image = ImagePredictor(noted.bundle, session=noted, apply_postprocessing=apply)
        image.set_image(rgb)
        found[apply] = image.predict(box=boxes, multimask_output=False)
    out = noted.of("mask_decoder")[-1][1]
    first = np.clip(out["all_mask_logits"][:, :1], -32, 32)
    np.testing.assert_array_equal(found[False][2], first)
    np.testing.assert_array_equal(found[False][1], out["all_ious"][:, :1])
    # the rule has something to choose here
    assert not np.array_equal(found[True][2], first)


@pytest.mark.parametrize("kind", ["video", "stream", "masks"])
def test_the_other_predictors_without_postprocessing(noted: Noted, kind: str) -> None:
    rgb = np.random.default_rng(3).integers(0, 255, (60, 80, 3), np.uint8)
    if kind == "masks":
        made = MaskGenerator(noted.bundle, session=noted, apply_postprocessing=False)
        assert made.predictor.apply_postprocessing is False
        return
    if kind == "video":
        video = VideoPredictor(noted.bundle, session=noted, apply_postprocessing=False)
        assert video.fill_hole_area == 0
        state = video.init_state(rgb[None])
        video.add_new_points_or_box(state, 0, 1, box=[5, 5, 40, 50])
        video.propagate_in_video_preflight(state)
        low = state.objects[1].history.cond[0].mask_logits
    else:
        stream = StreamTracker(noted.bundle, session=noted, apply_postprocessing=False)
        stream.add_box(1, [5, 5, 40, 50])
        low = stream.step(rgb).low_res_logits
    ((_, out),) = noted.of("mask_decoder")
    np.testing.assert_array_equal(low, out["all_mask_logits"][0, :1])
    ((inputs, _),) = noted.of("memory_encoder")
    np.testing.assert_array_equal(inputs["binarize"], [False])
    np.testing.assert_array_equal(inputs["mask_logits"], out["all_mask_logits"][:, :1])


def test_the_builders_rules_are_the_default(noted: Noted) -> None:
    video = VideoPredictor(noted.bundle, session=noted)
    state = video.init_state(FRAME[None])
    video.add_new_points_or_box(state, 0, 1, box=[5, 5, 40, 50])
    video.propagate_in_video_preflight(state)
    assert video.fill_hole_area == 8
    assert (state.objects[1].history.cond[0].mask_logits == 123).all()
    np.testing.assert_array_equal(noted.of("memory_encoder")[0][0]["binarize"], [True])
    chosen = VideoPredictor(noted.bundle, session=noted, fill_hole_area=3)
    kept = VideoPredictor(noted.bundle, session=noted, fill_hole_area=3, apply_postprocessing=False)
    assert (chosen.fill_hole_area, kept.fill_hole_area) == (3, 3)


def test_an_absent_object_has_no_mask_without_postprocessing_too(colours: ColourSession) -> None:
    video = VideoPredictor(colours.bundle, session=colours, apply_postprocessing=False)
    state = video.init_state(FRAME[None])
    # one click wants a colour, the other refuses it: nothing is found
    found = video.add_new_points_or_box(state, 0, 1, [[20, 20], [60, 40]], [1, 0])[2]
    assert (found == -1024).all()


def tracked(session: Any, video: np.ndarray, **options: Any) -> tuple[VideoPredictor, Any]:
    """Tracked through 20 frames, then corrected on frame 10."""
    predictor = VideoPredictor(session.bundle, session=session, **options)
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, box=[8, 30, 32, 54])
    predictor.add_new_points_or_box(state, 0, 2, [[70, 70]], [1])
    for _ in predictor.propagate_in_video(state):
        pass
    predictor.add_new_points_or_box(state, 10, 1, [[34, 42]], [1])
    return predictor, state


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    frames = np.repeat(np.random.default_rng(5).integers(30, 120, (1, 96, 128, 3), np.uint8), 20, 0)
    for t in range(20):
        frames[t, 30:54, 8 + 2 * t : 32 + 2 * t] = (230, 190, 60)
    return frames


@pytest.mark.parametrize("as_cond", [True, False])
def test_memories_around_a_correction_are_forgotten(
    session: Any, video: np.ndarray, as_cond: bool
) -> None:
    """As if they had never been: the others' frames and the other object keep theirs."""
    options = {"add_all_frames_to_correct_as_cond": as_cond}
    predictor, state = tracked(session, video, clear_non_cond_mem_around_input=True, **options)
    predictor.propagate_in_video_preflight(state)
    assert sorted(state.objects[1].history.non_cond) == [1, 2, 18, 19]
    assert sorted(state.objects[1].history.cond) == ([0, 10] if as_cond else [0])
    assert sorted(state.objects[2].history.non_cond) == list(range(1, 20))

    other, plain = tracked(session, video, **options)
    other.propagate_in_video_preflight(plain)
    kept = {t: logits for t, _, logits in other.propagate_in_video(plain, 11, 3)}
    other, plain = tracked(session, video, **options)
    other.propagate_in_video_preflight(plain)
    for t in range(3, 18):
        plain.objects[1].history.non_cond.pop(t, None)
    expected = {t: logits for t, _, logits in other.propagate_in_video(plain, 11, 3)}
    found = {t: logits for t, _, logits in predictor.propagate_in_video(state, 11, 3)}
    for t in (11, 12, 13, 14):
        np.testing.assert_array_equal(found[t], expected[t])
        assert not np.array_equal(found[t][0], kept[t][0])
        np.testing.assert_array_equal(found[t][1], kept[t][1])


@pytest.mark.parametrize("size", [(30, 40), (17, 200), (256, 256), (64, 64), (59, 80), (1, 1)])
@pytest.mark.parametrize("kind", ["video", "stream"])
def test_a_mask_of_any_size_is_stretched_as_in_the_original(
    colours: ColourSession, size: tuple[int, int], kind: str
) -> None:
    noted = Noted(colours)
    height, width = size
    rows, columns = np.ogrid[:height, :width]
    mask = (rows * 3 < height * 2) & (columns * 2 <= width)
    if kind == "video":
        video = VideoPredictor(colours.bundle, session=noted)
        video.add_new_mask(video.init_state(FRAME[None]), 0, 1, mask.astype(np.uint8) * 255)
    else:
        stream = StreamTracker(colours.bundle, session=noted)
        stream.add_mask(1, mask)
        stream.step(FRAME)
    side = colours.bundle.model.image_size
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), (side, side), mode="bilinear",
        align_corners=False, antialias=True,
    )  # fmt: skip
    ((inputs, _),) = noted.of("mask_prompt")
    np.testing.assert_array_equal(inputs["mask"], (resized >= 0.5).float().numpy())


def test_a_mask_on_its_side_is_refused(colours: ColourSession) -> None:
    video = VideoPredictor(colours.bundle, session=colours)
    state = video.init_state(FRAME[None])
    message = r"mask has shape \(80, 60\), expected .* \(60, 80\): it lies on its side, use mask.T"
    with pytest.raises(InputError, match=message):
        video.add_new_mask(state, 0, 1, np.ones((80, 60), bool))
    stream = StreamTracker(colours.bundle, session=colours)
    stream.add_mask(1, np.ones((80, 60), bool))
    with pytest.raises(InputError, match=message):
        stream.step(FRAME)
    assert state.obj_ids == stream.obj_ids == []
    with pytest.raises(StateError, match="no object to track"):
        next(video.propagate_in_video(state))
