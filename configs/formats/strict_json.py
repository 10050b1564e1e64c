"""JSON as files of ours hold it: what readers in two languages could take differently is refused.

Python's own reader takes NaN, the last of two equal keys, integers of any length and halves of
surrogate pairs; others refuse them, or take the first. The C++ runtime refuses the same.
"""

from __future__ import annotations

import json
import math
from typing import Any

#: levels of lists and objects; our own files have at most eight
DEEPEST = 64
_INT64 = 1 << 63


def strict_json(content: bytes, most: int) -> Any:
    """The value of a JSON text of at most `most` bytes in UTF-8.

    Raises ValueError, one line, for anything else: an empty file, a byte order mark, nesting
    beyond DEEPEST, a key twice, numbers outside int64 or float64, text that is no Unicode.
    """
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    if not content.strip():
        raise ValueError("empty")
    if content.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark")
    # other readers take a NUL for the end
    if b"\0" in content:
        raise ValueError("a NUL byte")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_int=_int64,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON from byte {len(text[: error.pos].encode())} on") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check_parts(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key twice")
    return made


def _no_number(name: str) -> float:
    raise ValueError(f"{name}, which is no number")


def _int64(digits: str) -> int:
    # more digits than an int64 has may be more than Python converts
    number = int(digits) if len(digits) <= 20 else _INT64
    if not -_INT64 <= number < _INT64:
        raise ValueError("a number that is too large")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number


def _check_parts(value: Any) -> None:
    parts = [(value, 0)]
    while parts:
        part, depth = parts.pop()
        if isinstance(part, (dict, list)):
            if depth == DEEPEST:
                raise ValueError("nested too deep")
            inside = [*part, *part.values()] if isinstance(part, dict) else part
            parts += [(item, depth + 1) for item in inside]
        elif isinstance(part, str) and not _is_unicode(part):
            raise ValueError("half of a surrogate pair")


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
