"""Checks of a caller's arguments: each gives the value in its plain type, or raises InputError."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

from .errors import InputError


def shown(value: Any) -> str:
    """The value as the start of one line."""
    return f"{shown_line(repr(value)):.60}"


def shown_line(text: str) -> str:
    """The text as one line of at most 300 characters."""
    return f"{' '.join(text.split()):.300}"


def whole_number(name: str, value: Any, least: int | None = None, other: str = "") -> int:
    """`value` as an int: any integer type, numpy's too, but no bool; at least `least`.

    `other` ends the message with what else may be given, such as ", or None for all".
    """
    try:
        # an index of what is True would be 1
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        bound = "" if least is None else f", at least {least}"
        raise InputError(f"{name} is {shown(value)}: expected a whole number{bound}{other}")
    if least is not None and number < least:
        raise InputError(f"{name} is {number}: expected at least {least}{other}")
    return number


def real_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite float from low to high; no bool, no text."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        if math.isfinite(high):
            bound = f" from {low:g} to {high:g}"
        else:
            bound = f" of at least {low:g}" if math.isfinite(low) else " that is finite"
        raise InputError(f"{name} is {shown(value)}: expected a number{bound}")
    return float(value)
