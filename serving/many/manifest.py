"""Lists of clips with their prompts: JSON Lines, CSV, or a folder of first-frame masks.

JSON Lines has one line a clip, prompts as in a file of prompts
(:mod:`~sam2rt.runtime.tasks.prompt_file`)::

    {"clip": "a.mp4", "prompts": [{"object": 1, "frame": 0, "points": [[210, 350]], "labels": [1]}]}

CSV has a header and one row a point, a box or a mask; rows of the same clip, object and frame are
one prompt. Relative names count from the list's folder.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...configs.checks import shown
from ...configs.errors import FrameError, InputError
from ...configs.remedies import line_of
from ...runtime.media.images import IMAGE_SUFFIXES, image_files
from ...runtime.tasks.prompt_file import mask_of, masks_of_ids, parsed_json, prompts_from
from ...runtime.tasks.prompts import ObjectPrompt
from .clips import Clip

STDIN, _STDIN_NAME = "-", "standard input"
#: columns of CSV: numbers of a point and of a box, and names of files
_POINT, _BOX = ("x", "y", "label"), ("x0", "y0", "x1", "y1")
COLUMNS = ("clip", "object", "frame", *_POINT, *_BOX, "mask", "mask_ids")


@dataclass
class ClipList:
    """Clips in their order, and a line for each entry that cannot be used."""

    clips: list[Clip] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def load_clips(path: str) -> ClipList:
    """The clips of a list, CSV by its suffix; ``-`` is JSON Lines from standard input.

    Raises InputError for a list that cannot be read at all, or has no line.
    """
    name, folder = (_STDIN_NAME, Path()) if path == STDIN else (path, Path(path).parent)
    text = _text(path, name)
    as_csv = Path(path).suffix.lower() == ".csv"
    found = _of_csv(text, name, folder) if as_csv else _of_lines(text, name, folder)
    if not found.clips and not found.bad:
        raise InputError(f"{name} names no clip: expected one line a clip")
    return found


def clips_of(paths: Sequence[str], prompts: Sequence[ObjectPrompt]) -> ClipList:
    """The same prompts for each clip, such as those of a camera that stands still."""
    return ClipList([_clip(path, Path(), tuple(prompts), "") for path in paths])


def clips_with_masks(paths: Sequence[str], folder: Path) -> ClipList:
    """Clips with masks of their first frame: ``NAME.png`` or the first image of ``NAME/``.

    NAME is the clip's without its suffix. An image of 0 with 255 is object 1, one of other values
    has object ids. Raises InputError where `folder` is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: expected one with a mask for each clip")
    found, names = ClipList(), dict[str, str]()
    for path in paths:
        stem = Path(path).name if Path(path).is_dir() else Path(path).stem
        earlier = names.setdefault(stem, path)
        try:
            if earlier != path:
                raise InputError(f"{path}: the mask {stem} is that of {earlier} too: list both")
            prompts = _first_prompts(_first_mask(folder, stem, path))
            found.clips.append(_clip(path, Path(), prompts, ""))
        except InputError as error:
            found.bad.append(str(error))
    return found


def _first_mask(folder: Path, stem: str, path: str) -> Path:
    for suffix in sorted(IMAGE_SUFFIXES):
        if (file := folder / f"{stem}{suffix}").is_file():
            return file
    if (inner := folder / stem).is_dir() and (images := image_files(inner)):
        return images[0]
    raise InputError(f"{path}: folder {folder} has no mask for it: expected {stem}.png")


def _first_prompts(file: Path) -> tuple[ObjectPrompt, ...]:
    try:
        return (ObjectPrompt(1, 0, mask=mask_of(file), place=str(file)),)
    except FrameError:
        masks = masks_of_ids(file)
    return tuple(ObjectPrompt(i, 0, mask=mask, place=str(file)) for i, mask in masks.items())


def _clip(name: str, folder: Path, prompts: tuple[ObjectPrompt, ...], place: str) -> Clip:
    # workers may have another working folder
    return Clip((Path.cwd() / folder / name), prompts, name, place)


def _of_lines(text: str, name: str, folder: Path) -> ClipList:
    found = ClipList()
    # splitlines would end a line at characters that JSON's text may hold
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            found.clips.append(clip_from(parsed_json(line, place), place, folder))
        except InputError as error:
            found.bad.append(str(error))
    return found


def clip_from(entry: Any, place: str, folder: Path) -> Clip:
    """The clip of an entry of a list, as JSON gives it; InputError names its place."""
    if not isinstance(entry, dict):
        raise InputError(
            f'{place}: expected {{"clip": ..., "prompts": [...]}}, found {shown(entry)}'
        )
    for field_name in entry:
        if field_name not in ("clip", "prompts"):
            raise InputError(f"{place}: unknown {field_name!r}, expected clip and prompts")
    clip = entry.get("clip")
    if not isinstance(clip, str) or not clip or "\0" in clip:
        raise InputError(
            f"{place}, clip: expected the name of a file or folder, found {shown(clip)}"
        )
    return _clip(clip, folder, tuple(prompts_from(entry.get("prompts"), place, folder)), place)


def _of_csv(text: str, name: str, folder: Path) -> ClipList:
    found = ClipList()
    for clip, (line, entries, wrong) in _csv_clips(text, name).items():
        place = f"{name}, line {line}"
        try:
            if wrong:
                raise InputError(wrong)
            merged = {"clip": clip, "prompts": list(entries.values())}
            found.clips.append(clip_from(merged, place, folder))
        except InputError as error:
            found.bad.append(str(error))
    return found


#: of a clip: its first line, its entries by object and frame, and what is wrong with a row
_CsvClip = tuple[int, dict[Any, dict[str, Any]], str]


def _csv_clips(text: str, name: str) -> dict[str, _CsvClip]:
    clips: dict[str, _CsvClip] = {}
    for line, row in _csv_rows(text, name):
        clip = row.get("clip", "")
        first, entries, wrong = clips.setdefault(clip, (line, {}, ""))
        try:
            _add_row(entries, row, line)
        except InputError as error:
            clips[clip] = first, entries, wrong or f"{name}, line {line}: {error}"
    return clips


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number, and the fields of a row that hold something."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        columns = reader.fieldnames or []
        unknown = [column for column in columns if column not in COLUMNS]
        if "clip" not in columns or unknown or len(set(columns)) < len(columns):
            raise InputError(
                f"{name}: the header is {shown(', '.join(columns))}, expected clip and some of "
                f"{', '.join(COLUMNS[1:])}"
            )
        for row in reader:
            if None in row:
                raise InputError(f"{name}, line {reader.line_num}: more fields than the header")
            fields = {key: value.strip() for key, value in row.items() if value}
            yield reader.line_num, {key: value for key, value in fields.items() if value}
    except csv.Error as error:
        raise InputError(
            f"{name}, line {reader.line_num} is no CSV ({error}): correct it"
        ) from None


def _add_row(entries: dict[Any, dict[str, Any]], row: dict[str, str], line: int) -> None:
    """Merge a row into the prompt of its object and frame."""
    obj_id, frame = _whole(row, "object", 1), _whole(row, "frame", 0)
    if "mask_ids" in row:
        rest = [n for n in row if n not in ("clip", "frame", "mask_ids")]
        if rest:
            raise InputError(f"mask_ids names its objects itself, found {rest[0]} too")
        entries[line] = {"frame": frame, "mask_ids": row["mask_ids"]}
        return
    entry = entries.setdefault((obj_id, frame), {"object": obj_id, "frame": frame})
    given = [what for what in (_POINT, _BOX) if any(name in row for name in what)]
    if not given and "mask" not in row:
        raise InputError("expected x and y, x0 to y1, a mask or mask_ids")
    if _POINT in given:
        entry.setdefault("points", []).append([_number(row, "x"), _number(row, "y")])
        entry.setdefault("labels", []).append(_whole(row, "label", 1))
    if _BOX in given:
        _once(entry, "box", [_number(row, side) for side in _BOX])
    if "mask" in row:
        _once(entry, "mask", row["mask"])


def _once(entry: dict[str, Any], what: str, value: Any) -> None:
    if what in entry:
        raise InputError(f"a second {what} of object {entry['object']} on frame {entry['frame']}")
    entry[what] = value


def _whole(row: dict[str, str], column: str, default: int) -> int:
    try:
        return int(row.get(column, default))
    except ValueError:
        raise InputError(f"{column}: expected a whole number, found {row[column]!r}") from None


def _number(row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except (KeyError, ValueError):
        raise InputError(f"{column}: expected a number, found {row.get(column)!r}") from None


def _text(path: str, name: str) -> str:
    try:
        if path == STDIN:
            # None where the caller closed it
            return sys.stdin.read() if sys.stdin is not None else ""
        # line ends stay: a field of CSV may hold some
        with Path(path).open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{name} does not exist: expected a list of clips") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} is no text in UTF-8: expected JSON Lines or CSV") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read ({line_of(error)}): expected a file") from None
