"""What X-AnyLabeling sends and takes: bodies, marks, shapes, how its models are described."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from ...configs.checks import shown
from ...configs.errors import InputError
from ...runtime.arrays import Mask
from ..sessions.limits import NotFoundError, NotMediaError
from ..web.schemas import FRAME, OBJECT, Schema
from .outlines import polygons_of

IMAGE_MODEL, VIDEO_MODEL = "sam2rt", "sam2rt_video"
NO_TEXT = "a text prompt: SAM 2 takes clicks and boxes, not words"
#: what its client asks to be named before it is kept
_LABEL = "AUTOLABEL_OBJECT"
#: its client's own default
_FINENESS = 0.001

_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_NUMBER = {"type": "number", "minimum": -1e6, "maximum": 1e6}
#: as long as a body may be
_IMAGE = {"type": "string", "minLength": 1, "maxLength": 1 << 40}
_PARAMS: Schema = {
    "type": "object",
    "properties": {
        "conf_threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "epsilon_factor": {"type": "number", "minimum": 0, "maximum": 1},
        "marks": {
            "type": "array",
            "maxItems": 1000,
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "enum": ["point", "rectangle"]},
                    "label": {"type": "integer", "minimum": 0, "maximum": 1},
                    "data": {"type": "array", "minItems": 2, "maxItems": 4, "items": _NUMBER},
                },
                "required": ["type", "data"],
            },
        },
    },
}
PREDICT: Schema = {
    "type": "object",
    "properties": {"model": _TEXT, "image": _IMAGE, "params": _PARAMS},
    "required": ["model", "image"],
}
INIT: Schema = {
    "type": "object",
    "properties": {
        "model": _TEXT,
        "frames": {"type": "array", "minItems": 1, "maxItems": 1_000_000, "items": _IMAGE},
    },
    "required": ["model", "frames"],
}
PROMPT: Schema = {
    "type": "object",
    "properties": {
        "session_id": _TEXT,
        "frame_index": FRAME,
        "obj_id": OBJECT,
        "points": {
            "type": "array",
            "maxItems": 1000,
            "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": _NUMBER},
        },
        "point_labels": {
            "type": "array",
            "maxItems": 1000,
            "items": {"type": "integer", "minimum": 0, "maximum": 1},
        },
        "params": _PARAMS,
    },
    "required": ["session_id"],
}
PROPAGATION: Schema = {
    "type": "object",
    "properties": {
        "session_id": _TEXT,
        "start_frame": FRAME,
        "end_frame": FRAME,
        "params": _PARAMS,
    },
    "required": ["session_id"],
}


def models(name: str) -> dict[str, Any]:
    """Our two models as ``/v1/models`` describes them; name: of the bundle's model."""
    clicks = ["button_add_point", "button_remove_point", "button_clear", "button_finish_object"]
    image = [*clicks, "button_add_rect", "mask_fineness_value_label"]
    return {
        IMAGE_MODEL: {
            "display_name": f"sam2rt {name}",
            "batch_processing_mode": None,
            "widgets": [
                *({"name": widget, "value": None} for widget in image),
                {"name": "mask_fineness_slider", "value": 10},
                {"name": "toggle_preserve_existing_annotations", "value": False},
            ],
            "params": {},
        },
        VIDEO_MODEL: {
            "display_name": f"sam2rt {name} video",
            "batch_processing_mode": "video",
            "widgets": [{"name": widget, "value": None} for widget in clicks],
            "params": {},
        },
    }


def check_model(name: str) -> None:
    """NotFoundError for a model that is not ours."""
    if name not in (IMAGE_MODEL, VIDEO_MODEL):
        raise NotFoundError(f"no model {name!r:.60}: expected {IMAGE_MODEL} or {VIDEO_MODEL}")


def fineness(body: dict[str, Any]) -> float:
    """What share of its length an outline may stray, as its client sends it where it does."""
    given = (body.get("params") or {}).get("epsilon_factor")
    return _FINENESS if given is None else float(given)


def content_of(text: str) -> bytes:
    """The bytes of a data URI, or of base64 alone. NotMediaError."""
    head, comma, rest = text.partition(",")
    if comma and not (head.startswith("data:") and head.endswith(";base64")):
        raise NotMediaError(f"the image begins with {shown(head)}: expected data:...;base64,")
    try:
        return base64.b64decode(rest if comma else text, validate=True)
    except (binascii.Error, ValueError):
        raise NotMediaError("the image is no base64: send a data URI") from None


@dataclass
class Marks:
    """Clicks and a box of one object, in pixels of the image."""

    points: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: list[float] | None = None

    def asked(self) -> dict[str, Any]:
        """As arguments of :meth:`~sam2rt.ImagePredictor.predict`."""
        return {"point_coords": self.points, "point_labels": self.labels, "box": self.box}


def prompts_of(params: dict[str, Any]) -> list[Marks]:
    """The prompts of a request: all marks are one object, or several boxes are one each.

    Raises InputError for clicks beside several boxes, negative boxes, and words.
    """
    if params.get("text_prompt"):
        raise InputError(NO_TEXT)
    clicks, boxes = Marks(), []
    for mark in params.get("marks") or ():
        data, label = mark["data"], mark.get("label", 1)
        if len(data) != (2 if mark["type"] == "point" else 4):
            raise InputError(f"a {mark['type']} of {len(data)} numbers: expected x, y (x, y)")
        if mark["type"] == "point":
            clicks.points.append(data)
            clicks.labels.append(label)
        elif label == 1:
            # drawn from any corner
            (x0, x1), (y0, y1) = sorted(data[::2]), sorted(data[1::2])
            boxes.append(Marks(box=[x0, y0, x1, y1]))
        else:
            raise InputError("a negative box: SAM 2 takes negative points, not boxes")
    if clicks.points and len(boxes) > 1:
        raise InputError(f"clicks and {len(boxes)} boxes: give clicks with one box, or boxes alone")
    if clicks.points and boxes:
        clicks.box = boxes[0].box
    return [clicks] if clicks.points else boxes


def shapes_of(mask: Mask, share: float, score: float | None) -> list[dict[str, Any]]:
    """A polygon for each part of a mask, closed by its first point, the largest part first.

    share: of an outline's length that it may stray; holes are left out.
    """
    return [
        {
            "label": _LABEL,
            "shape_type": "polygon",
            "points": [*part.tolist(), part[0].tolist()],
            "score": score,
            "group_id": None,
            "attributes": {},
            "description": None,
            "difficult": False,
            "direction": 0,
            "flags": None,
            "kie_linking": [],
        }
        for part in polygons_of(mask, share=share)
    ]
