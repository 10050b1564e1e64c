"""PROMPTS: the file of prompts of the command line, without what names files of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...configs.checks import shown, whole_number
from ...configs.errors import InputError
from ...configs.formats.strict_json import strict_json
from ...runtime.tasks.prompt_file import prompts_from
from ...runtime.tasks.prompts import ObjectPrompt
from ..sessions.limits import TooManyError
from ..sessions.prompts import MOST_ID

#: bytes of PROMPTS at most: run lengths of some hundred masks
_MOST = 16 << 20
_FORM = '{"prompts": [...]}'


def read_prompts(text: bytes | None) -> list[ObjectPrompt]:
    """The prompts of an image or a clip. Raises InputError, one line."""
    document = _document(text or b"", ("prompts",))
    if "prompts" not in document:
        raise InputError(f"PROMPTS: expected {_FORM}")
    return _prompts(document["prompts"])


def read_stream_prompts(text: bytes | None) -> tuple[list[ObjectPrompt], list[int]]:
    """The prompts of a stream's next frame, and the ids of objects to forget before it.

    None: neither. Raises InputError, one line.
    """
    if text is None:
        return [], []
    document = _document(text, ("prompts", "remove"))
    removed = document.get("remove", [])
    if not isinstance(removed, list):
        raise InputError(f"PROMPTS, remove: expected a list of object ids, found {shown(removed)}")
    entries = document.get("prompts")
    if isinstance(entries, list):
        for number, entry in enumerate(entries, 1):
            if isinstance(entry, dict) and entry.get("frame") is not None:
                raise InputError(
                    f"PROMPTS, prompt {number}, frame: a prompt of a stream is for the frame it "
                    "comes with, leave the frame out"
                )
    prompts = [] if entries is None else _prompts(entries)
    seen = set()
    for prompt in prompts:
        if prompt.obj_id in seen:
            raise InputError(f"{prompt.where} has two prompts: give them as one")
        seen.add(prompt.obj_id)
    return prompts, [whole_number("PROMPTS, remove", number) for number in removed]


def check_count(obj_ids: set[int], most: int) -> None:
    """TooManyError for more objects than one session, clip or image may have."""
    if len(obj_ids) > most:
        raise TooManyError(f"{len(obj_ids)} objects, expected at most {most}: leave some out")


def _document(text: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = strict_json(text, _MOST)
    except ValueError as error:
        raise InputError(
            f"PROMPTS is no JSON that can be used ({error}): expected {_FORM}"
        ) from None
    if not isinstance(document, dict):
        raise InputError(f"PROMPTS: expected {_FORM}, found {shown(document)}")
    for name in document:
        if name not in names:
            raise InputError(f"PROMPTS: unknown {shown(name)}, expected {' or '.join(names)}")
    return document


def _prompts(entries: Any) -> list[ObjectPrompt]:
    for number, entry in enumerate(entries if isinstance(entries, list) else (), 1):
        # a client that names files would read the server's
        named = isinstance(entry, dict) and (
            "mask_ids" in entry or isinstance(entry.get("mask"), str)
        )
        if named:
            raise InputError(
                f"PROMPTS, prompt {number}: a file was named, expected a mask as COCO's run "
                'lengths, {"size": [height, width], "counts": ...}'
            )
    prompts = prompts_from(entries, "PROMPTS", Path())
    for prompt in prompts:
        if not 0 <= prompt.obj_id <= MOST_ID:
            raise InputError(f"{prompt.where}: expected an object from 0 to {MOST_ID}")
    return prompts
