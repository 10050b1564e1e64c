"""Prompts from a file, one format for ``sam2rt track`` and ``sam2rt segment``.

JSON, with one entry an object and frame, in pixels of the frame::

    {"prompts": [{"object": 1, "frame": 0, "points": [[210, 350]], "labels": [1]},
                 {"object": 2, "frame": 0, "box": [300, 0, 500, 400]},
                 {"object": 3, "frame": 5, "mask": "mask.png"},
                 {"frame": 9, "mask_ids": "ids.png"}]}

``object`` is 1, ``frame`` 0 and each label 1 unless given. ``mask`` is an image of 0 with 1 or
255, a ``.json`` file of COCO's run lengths, or these themselves; ``mask_ids`` an image of object
ids, which prompts each of them. Relative names count from the prompt file's folder.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from ...configs.checks import shown, shown_line
from ...configs.errors import InputError
from ..media.mask_file import read_mask, read_mask_ids
from ..pixels.rle import mask_from_rle, rle_from_mask
from .prompts import Box, Click, MaskRuns, ObjectPrompt

T = TypeVar("T")
_FIELDS = ("object", "frame", "points", "labels", "box", "mask", "mask_ids")
#: pixels of a frame's side, at most
_LONGEST = 1 << 16
#: the name of standard input, and what errors call it
STDIN, _STDIN_NAME = "-", "standard input"


def load_prompts(path: str) -> list[ObjectPrompt]:
    """The prompts of a file, or of standard input for ``-``. InputError names what is wrong."""
    name = _STDIN_NAME if path == STDIN else path
    document = parsed_json(_text(path, name), name)
    if not isinstance(document, dict) or set(document) != {"prompts"}:
        names = shown_line(", ".join(document)) if isinstance(document, dict) else None
        found = shown(document) if names is None else names
        raise InputError(f'{name}: expected {{"prompts": [...]}}, found {found or "nothing"}')
    folder = Path() if path == STDIN else Path(path).parent
    return prompts_from(document["prompts"], name, folder)


def prompts_from(entries: Any, place: str, folder: Path) -> list[ObjectPrompt]:
    """The prompts of a list of entries, as JSON gives it.

    place: what errors call the list, before the entry's number from 1. folder: where relative
    names of masks count from. Raises InputError.
    """
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{place}: prompts is {shown(entries)}, expected a list of at least one")
    found: list[ObjectPrompt] = []
    seen: dict[tuple[int, int], int] = {}
    for number, entry in enumerate(entries, 1):
        for prompt in _Entry(entry, f"{place}, prompt {number}", folder).prompts():
            key = prompt.obj_id, prompt.frame_idx
            if (earlier := seen.setdefault(key, number)) != number:
                raise InputError(
                    f"{place}, prompt {number}: object {key[0]} has a prompt on frame {key[1]} "
                    f"already, prompt {earlier}: give them as one"
                )
            found.append(prompt)
    return found


def mask_of(path: str | Path) -> MaskRuns:
    """A mask from an image, or from a ``.json`` file of COCO's run lengths; InputError."""
    name = str(path)
    if Path(path).suffix.lower() != ".json":
        return _runs(read_mask(path))
    document = parsed_json(_text(name, name), name)
    if isinstance(document, dict) and "segmentation" in document:
        document = document["segmentation"]
    try:
        return _checked_runs(document)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def masks_of_ids(path: str | Path) -> dict[int, MaskRuns]:
    """The masks of an image of object ids, by id; InputError."""
    return {obj_id: _runs(mask) for obj_id, mask in read_mask_ids(path)}


class _Entry:
    """One entry of the list; errors name its place and the field."""

    def __init__(self, entry: Any, place: str, folder: Path) -> None:
        self._place, self._folder = place, folder
        if not isinstance(entry, dict):
            raise InputError(f"{place}: expected an object {{...}}, found {shown(entry)}")
        # null says the same as leaving it out
        self._entry = {name: value for name, value in entry.items() if value is not None}
        for name in self._entry:
            if name not in _FIELDS:
                raise InputError(
                    f"{place}: unknown {name!r}, expected some of {', '.join(_FIELDS)}"
                )

    def prompts(self) -> Iterator[ObjectPrompt]:
        frame = self._number("frame", 0)
        if frame < 0:
            self._fail("frame", "a whole number from 0 on")
        if "mask_ids" in self._entry:
            yield from self._objects_of_ids(frame)
            return
        obj_id = self._number("object", 1)
        prompt = ObjectPrompt(
            obj_id, frame, self._points(), self._box(), self._mask(), place=self._place
        )
        if not prompt.points and prompt.box is None and prompt.mask is None:
            raise InputError(f"{self._place}: expected points, a box, a mask or mask_ids")
        yield prompt

    def _objects_of_ids(self, frame: int) -> Iterator[ObjectPrompt]:
        others = [name for name in self._entry if name not in ("frame", "mask_ids")]
        if others:
            raise InputError(
                f"{self._place}: mask_ids names its objects itself, found {others[0]} too: give "
                "that as a prompt of its own"
            )
        path = self._file("mask_ids")
        masks = self._in_field("mask_ids", lambda: masks_of_ids(path))
        for obj_id, mask in masks.items():
            yield ObjectPrompt(obj_id, frame, mask=mask, place=self._place)

    def _mask(self) -> MaskRuns | None:
        value = self._entry.get("mask")
        if value is None:
            return None
        if isinstance(value, dict):
            return self._in_field("mask", lambda: _checked_runs(value))
        path = self._file("mask")
        return self._in_field("mask", lambda: mask_of(path))

    def _file(self, field: str) -> Path:
        value = self._entry[field]
        if not isinstance(value, str) or not value:
            other = "" if field == "mask_ids" else " or COCO's run lengths"
            self._fail(field, f"the name of a file{other}")
        return self._folder / value

    def _in_field(self, field: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except InputError as error:
            raise self._error(field, str(error)) from None

    def _points(self) -> tuple[Click, ...]:
        points, labels = self._entry.get("points"), self._entry.get("labels")
        if points is None:
            if labels is not None:
                self._fail("labels", "points beside them")
            return ()
        if not isinstance(points, list) or not all(_are_numbers(p, 2) for p in points):
            self._fail("points", "[[x, y], ...] in pixels")
        if labels is None:
            labels = [1] * len(points)
        known = isinstance(labels, list) and all(type(v) is int and v in (0, 1) for v in labels)
        if not known or len(labels) != len(points):
            self._fail("labels", f"{len(points)} of 1 (object) or 0 (background), one a point")
        return tuple((float(x), float(y), v) for (x, y), v in zip(points, labels, strict=True))

    def _box(self) -> Box | None:
        box = self._entry.get("box")
        if box is None:
            return None
        if not _are_numbers(box, 4):
            self._fail("box", "[x0, y0, x1, y1] in pixels")
        x0, y0, x1, y1 = map(float, box)
        return x0, y0, x1, y1

    def _number(self, field: str, default: int) -> int:
        value = self._entry.get(field, default)
        if type(value) is not int:
            self._fail(field, "a whole number")
        return int(value)

    def _fail(self, field: str, expected: str) -> NoReturn:
        raise self._error(field, f"expected {expected}, found {shown(self._entry[field])}")

    def _error(self, field: str, text: str) -> InputError:
        return InputError(f"{self._place}, {field}: {text}")


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(v) in (int, float) and math.isfinite(v) and abs(v) < 1e9 for v in values)
    )


def _checked_runs(value: Any) -> MaskRuns:
    """COCO's run lengths that hold a mask."""
    if not isinstance(value, Mapping) or not {"size", "counts"} <= set(value):
        raise InputError(f"expected COCO's run lengths, size and counts, found {shown(value)}")
    sides = value["size"]
    if isinstance(sides, list) and any(type(s) is int and s > _LONGEST for s in sides):
        # decoding it would ask for more memory than there is
        raise InputError(f"size is {shown(sides)}: expected the frame's height and width in pixels")
    mask = mask_from_rle(value)
    if not mask.any():
        raise InputError("the run lengths mark no pixel: expected the object's")
    return _runs(mask)


def _runs(mask: Any) -> MaskRuns:
    return dict(rle_from_mask(np.asarray(mask)))


def _text(path: str, name: str) -> str:
    try:
        if path == STDIN:
            # None where the caller closed it
            return sys.stdin.read() if sys.stdin is not None else ""
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{name} does not exist: expected a file of prompts or a mask") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} is no text in UTF-8: expected JSON") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}): expected a file") from None


def parsed_json(text: str, name: str) -> Any:
    """Strict JSON: no name twice in an object. InputError calls the text `name`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for given, value in pairs:
            if given in found:
                # the first would count for nothing, without a word
                raise InputError(f"{name}: {shown(given)} stands twice in an object, expected once")
            found[given] = value
        return found

    try:
        # editors of Windows begin a file with a mark of byte order
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is no JSON ({shown_line(str(error))}): correct it") from None
