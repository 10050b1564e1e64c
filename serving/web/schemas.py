"""The bodies that clients send: requests are checked by what ``openapi.json`` says."""

from __future__ import annotations

from typing import Any

from ..sessions.prompts import MOST_ID

Schema = dict[str, Any]

#: beyond any frame's size; whether a point lies in its frame is checked later
_COORDINATE = {"type": "number", "minimum": -1e6, "maximum": 1e6}
_MOST_POINTS = 1000
OBJECT = {"type": "integer", "minimum": 0, "maximum": MOST_ID}
FRAME = {"type": "integer", "minimum": 0, "maximum": 1_000_000_000}
_SIDE = {"type": "integer", "minimum": 1, "maximum": 65_536}
MASK: Schema = {
    "type": "object",
    "properties": {
        "size": {"type": "array", "minItems": 2, "maxItems": 2, "items": _SIDE},
        "counts": {"type": "string", "minLength": 1, "maxLength": 4_000_000},
    },
    "required": ["size", "counts"],
    "additionalProperties": False,
}
PROMPT: Schema = {
    "type": "object",
    "properties": {
        "frame": FRAME,
        "object": OBJECT,
        "points": {
            "type": "array",
            "maxItems": _MOST_POINTS,
            "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": _COORDINATE},
        },
        "labels": {
            "type": "array",
            "maxItems": _MOST_POINTS,
            "items": {"type": "integer", "minimum": -128, "maximum": 127},
        },
        "box": {"type": "array", "minItems": 4, "maxItems": 4, "items": _COORDINATE},
        "mask": MASK,
        "clear": {"type": "boolean"},
    },
    "required": ["object"],
    "additionalProperties": False,
}
SESSION: Schema = {
    "type": "object",
    "properties": {
        "media": {"type": "string", "minLength": 1, "maxLength": 100},
        "sample": {"type": "string", "minLength": 1, "maxLength": 100},
        "path": {"type": "string", "minLength": 1, "maxLength": 4096},
        "no_overlap": {"type": "boolean"},
    },
    "additionalProperties": False,
}
NAME: Schema = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 0, "maxLength": 200}},
    "required": ["name"],
    "additionalProperties": False,
}
PROPAGATION: Schema = {
    "type": "object",
    "properties": {
        "direction": {"type": "string", "enum": ["forward", "backward", "both"]},
        "start": FRAME,
        "frames": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000},
    },
    "additionalProperties": False,
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
AUTOMATIC: Schema = {
    "type": "object",
    "properties": {
        "frame": FRAME,
        "points_per_side": {"type": "integer", "minimum": 1, "maximum": 64},
        "pred_iou_thresh": _SHARE,
        "stability_score_thresh": _SHARE,
        "min_mask_region_area": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
    },
    "additionalProperties": False,
}
ACTION: Schema = {
    "type": "object",
    "properties": {
        "prompt": PROMPT,
        "remove": OBJECT,
        "reset": {"type": "boolean", "enum": [True]},
    },
    "additionalProperties": False,
}
