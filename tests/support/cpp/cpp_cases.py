"""Recordings and results of the Python runtime as folders that the C++ programs read.

A case is a folder: ``case.json`` (calls and expectations) and raw arrays beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from golden import GoldenSet
from numpy.typing import NDArray
from recorded import recorded_frames, recorded_mask

from sam2rt import ImagePredictor, StreamTracker, VideoPredictor
from sam2rt.runtime.session import Session

Array = NDArray[Any]
#: the bounds of the Python runtime's own tests
LOGITS, SCORES = 1e-3, 1e-4
BOUNDS = {"low_res": LOGITS, "video": LOGITS, "mask": LOGITS, "obj_score": SCORES,
          "obj_ptr": SCORES, "iou": SCORES}  # fmt: skip


class CaseWriter:
    """Collects one case's files and events; `write` ends it."""

    def __init__(self, folder: Path, kind: str, **settings: Any) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.data: dict[str, Any] = {"kind": kind, **settings}
        self._count = 0

    def array(self, values: Array) -> str:
        """Store an array; gives the name of its file."""
        self._count += 1
        name = f"{self._count:05}.bin"
        np.ascontiguousarray(values).tofile(self.folder / name)
        return name

    def frames(self, frames: Array, video_size: tuple[int, int]) -> None:
        """The frames [T, H, W, 3] uint8, and the size of the video they stand for."""
        np.ascontiguousarray(frames).tofile(self.folder / "frames.bin")
        self.data |= {
            "num_frames": len(frames),
            "frame_size": list(frames.shape[1:3]),
            "video_size": list(video_size),
        }

    def recorded(self, golden: GoldenSet, name: str, what: str, file: str) -> list[dict[str, Any]]:
        """Expectations for every form in which `name` is recorded."""
        found: list[dict[str, Any]] = []
        common = {"what": "logits" if what == "mask" else what, "atol": BOUNDS[what]}
        if golden.has(name, file):
            values = golden.array(name, file).astype(np.float32)
            found.append({**common, "form": "whole", "file": self.array(values)})
        if golden.has(key := name + "__sample", file):
            stored = self.array(golden.array(key, file).astype(np.float32))
            stride = golden.meta(key, file)["stride"]
            found.append({**common, "form": "sample", "file": stored, "step": stride})
        if golden.has(key := name + "__grid", file):
            match = re.search(r"\[5::(\d+)", golden.meta(key, file)["meaning"])
            assert match is not None
            stored = self.array(golden.array(key, file).astype(np.float32))
            found.append({**common, "form": "grid", "file": stored, "step": int(match[1])})
        if golden.has(name + "__bits", file):
            inside = golden.masks(name, file).astype(np.uint8)
            allowed = golden.near_zero(name, file)
            found.append({**common, "form": "bits", "file": self.array(inside), "allowed": allowed})
        assert found, name
        return found

    def write(self) -> Path:
        (self.folder / "case.json").write_text(json.dumps(self.data))
        return self.folder


def golden_video(folder: Path, golden: GoldenSet, name: str) -> Path:
    """A recorded video scenario."""
    recorded = golden.manifest["scenarios"][name]
    case = CaseWriter(folder, "video", **(recorded.get("extra") or {}))
    frames = recorded_frames(golden, recorded["num_frames"])
    if isinstance(frames, list):
        from sam2rt.runtime.media.images import read_image

        pixels = np.stack([read_image(path) for path in frames])
        case.frames(pixels, (pixels.shape[1], pixels.shape[2]))
    else:
        case.frames(frames.frames, (frames.height, frames.width))
    events = [_golden_event(case, golden, f"v_{name}", e) for e in recorded["events"]]
    case.data["events"] = [*events, {"op": "end"}]
    return case.write()


def _golden_event(
    case: CaseWriter, golden: GoldenSet, file: str, event: Mapping[str, Any]
) -> dict[str, Any]:
    key = event["event"]
    if event["op"] == "propagate_in_video":
        return {"op": "propagate", **event["args"]}
    if event["op"] == "remove_object":
        return {
            "op": "remove_object",
            "obj_id": event["obj_id"],
            "obj_ids": event["obj_ids"],
            "updated_frames": event["updated_frames"],
            "expect": [
                case.recorded(golden, f"{key}.upd{n}.video", "video", file)
                for n in range(len(event["updated_frames"]))
            ],
        }
    made = {k: event[k] for k in ("frame", "obj_ids")}
    if event["op"] == "frame":
        made["op"] = "frame"
    elif event["op"] == "add_new_mask":
        mask = case.array(recorded_mask(event["mask"]).astype(np.uint8))
        made |= {"op": "add_mask", "obj_id": event["obj_id"], "mask": mask}
    else:
        made |= {"op": "add_points", "obj_id": event["obj_id"], **event["args"]}
    made["expect"] = [
        item
        for what in ("low_res", "obj_score", "obj_ptr", "video")
        for item in case.recorded(golden, f"{key}.{what}", what, file)
    ]
    tokens = golden.manifest["hidden_dim"] // golden.manifest["mem_dim"]
    made["calls"] = [
        {
            "multimask": call["multimask"],
            "memories": call.get("n_spatial_memories", -1),
            "pointers": call["n_ptr_tokens"] // tokens if "n_ptr_tokens" in call else -1,
        }
        for call in event["calls"]
    ]
    return made


def golden_image(folder: Path, golden: GoldenSet, image: Array) -> Path:
    """All recorded cases of the image predictor."""
    case = CaseWriter(folder, "image")
    case.frames(image[None], (image.shape[0], image.shape[1]))
    mask_input = case.array(golden.array("mask_input").astype(np.float32))
    cases = []
    for name, recorded in golden.manifest["b_cases"].items():
        cases.append(
            {
                "name": name,
                "prompts": _image_prompts(recorded, mask_input),
                "multimask_output": recorded["multimask_output"],
                "normalize_coords": recorded.get("normalize_coords", True),
                "expect": [
                    item
                    for what in ("iou", "low_res", "mask")
                    for item in case.recorded(golden, f"{name}.{what}", what, "b_image")
                ],
            }
        )
    case.data["cases"] = cases
    return case.write()


def _image_prompts(recorded: Mapping[str, Any], mask_input: str) -> list[dict[str, Any]]:
    points, labels, box = (recorded.get(k) for k in ("point_coords", "point_labels", "box"))
    common = {"mask_input": mask_input} if "mask_input" in recorded else {}
    if points is not None and np.ndim(points) == 3:
        return [{"points": p, "labels": c, **common} for p, c in zip(points, labels, strict=True)]
    if box is not None and np.ndim(box) == 2:
        return [{"box": b, **common} for b in box]
    prompt = dict(common)
    if points is not None:
        prompt |= {"points": points, "labels": labels}
    if box is not None:
        prompt["box"] = np.ravel(box).tolist()
    return [prompt]


def _digest(what: str, values: Array) -> dict[str, str]:
    data = np.ascontiguousarray(values, np.float32).tobytes()
    return {"what": what, "form": "digest", "digest": hashlib.sha256(data).hexdigest()}


def python_video(
    folder: Path,
    session: Session,
    frames: Array,
    prompts: Iterable[tuple[int, int, dict[str, Any]]],
    *,
    fill_hole_area: int,
    reverse_from: int | None = None,
) -> Path:
    """What the Python VideoPredictor gives, to the bit: prompts, forward, perhaps in reverse."""
    case = CaseWriter(folder, "video", fill_hole_area=fill_hole_area)
    case.frames(frames, frames.shape[1:3])
    predictor = VideoPredictor(session.bundle, session=session, fill_hole_area=fill_hole_area)
    state = predictor.init_state(frames)
    events: list[dict[str, Any]] = []

    def result(made: tuple[int, list[int], Array]) -> dict[str, Any]:
        frame_idx, obj_ids, logits = made
        return {"frame": frame_idx, "obj_ids": obj_ids, "expect": [_digest("video", logits)]}

    for frame_idx, obj_id, prompt in prompts:
        if "mask" in prompt:
            made = predictor.add_new_mask(state, frame_idx, obj_id, prompt["mask"])
            call = {"op": "add_mask", "mask": case.array(prompt["mask"].astype(np.uint8))}
        else:
            made = predictor.add_new_points_or_box(state, frame_idx, obj_id, **prompt)
            call = {"op": "add_points", **prompt}
        events.append({**call, "obj_id": obj_id, **result(made)})
    runs: list[dict[str, Any]] = [{}]
    if reverse_from is not None:
        runs.append({"start_frame_idx": reverse_from, "reverse": True})
    for run in runs:
        events.append({"op": "propagate", **run})
        for made in predictor.propagate_in_video(state, **run):
            events.append({"op": "frame", **result(made)})
    case.data["events"] = [*events, {"op": "end"}]
    return case.write()


def python_stream(
    folder: Path,
    session: Session,
    frames: Array,
    prompts: Iterable[tuple[int, int, dict[str, Any]]],
    *,
    fill_hole_area: int,
) -> Path:
    """What the Python StreamTracker gives, to the bit; prompts may come at any frame."""
    case = CaseWriter(folder, "stream", fill_hole_area=fill_hole_area)
    case.frames(frames, frames.shape[1:3])
    events: list[dict[str, Any]] = []
    given = list(prompts)
    with StreamTracker(session.bundle, session=session, fill_hole_area=fill_hole_area) as tracker:
        for t, frame in enumerate(frames):
            for frame_idx, obj_id, prompt in given:
                if frame_idx == t:
                    tracker.add_points(obj_id, **prompt)
                    events.append({"op": "add_points", "obj_id": obj_id, **prompt})
            result = tracker.step(frame)
            events.append(
                {
                    "op": "step",
                    "frame": t,
                    "obj_ids": result.obj_ids,
                    "expect": [
                        _digest("video", result.logits),
                        _digest("obj_score", result.object_scores),
                    ],
                }
            )
    case.data["events"] = events
    return case.write()


def python_batch(
    folder: Path, session: Session, images: list[Array], prompts: list[list[dict[str, Any]]]
) -> Path:
    """What the Python ImagePredictor gives for a batch of images, to the bit; one kind of prompt
    an image."""
    case = CaseWriter(folder, "batch")
    predictor = ImagePredictor(session.bundle, session=session)
    predictor.set_image_batch(images)

    def part(key: str) -> list[Any]:
        return [np.stack([p[key] for p in given]) if key in given[0] else None for given in prompts]

    results = predictor.predict_batch(
        part("points"), part("labels"), part("box"), return_logits=True
    )
    case.data["images"] = [
        {
            "file": case.array(np.ascontiguousarray(image)),
            "height": image.shape[0],
            "width": image.shape[1],
            "prompts": given,
            "expect": [
                _digest(what, values)
                for what, values in zip(("logits", "iou", "low_res"), result, strict=True)
            ],
        }
        for image, given, result in zip(images, prompts, zip(*results, strict=True), strict=True)
    ]
    return case.write()


#: (height, width) of frames: odd, tall, tiny, wide, the model's own size, larger on one side only
_SIZES = (
    (37, 53), (301, 97), (5, 700), (256, 256), (256, 401), (1, 1), (720, 256), (90, 3), (700, 4),
    (500, 378), (500, 377), (1280, 720),
)  # fmt: skip


def frame_tensors(folder: Path, image_size: int, *, device: bool = False) -> Path:
    """Frames of many sizes in every pixel format, and the tensor Python makes of each.

    device: the program shall say that they lie in CUDA memory.
    """
    import cv2

    from sam2rt.runtime.pixels.frame_tensor import video_frame_tensor

    case = CaseWriter(folder, "pixels", image_size=image_size, device=device)
    rng = np.random.default_rng(11)
    frames: list[dict[str, Any]] = []

    def add(form: str, stored: Array, rgb: Array) -> None:
        frames.append(
            {
                "format": form,
                "height": rgb.shape[0],
                "width": rgb.shape[1],
                "file": case.array(stored),
                "expect": _digest(f"{form} {rgb.shape}", video_frame_tensor(rgb, image_size)),
            }
        )

    for size in _SIZES:
        rgb = rng.integers(0, 256, (*size, 3), np.uint8)
        add("rgb", rgb, rgb)
        add("bgr", rgb[..., ::-1], rgb)
        add("rgba", np.dstack([rgb, rgb[..., :1]]), rgb)
    for height, width in ((36, 52), (300, 98), (540, 960)):
        nv12 = rng.integers(0, 256, (height * 3 // 2, width), np.uint8)
        add("nv12", nv12, cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12))
    case.data["frames"] = frames
    return case.write()
