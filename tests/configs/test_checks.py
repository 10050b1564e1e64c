"""What counts as a number, and what a caller is told about anything else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sam2rt import InputError
from sam2rt.configs.checks import real_number, shown, whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_whole_numbers_of_any_type(value: Any) -> None:
    assert type(whole_number("n", value, 3)) is int
    assert whole_number("n", value) == 3


@pytest.mark.parametrize("value", [1.5, 1.0, "1", None, True, np.bool_(True), [1], math.nan])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        whole_number("n", value, 1, ", or None for all")
    assert str(caught.value) == (
        f"n is {value!r}: expected a whole number, at least 1, or None for all"
    )


def test_a_whole_number_below_its_bound() -> None:
    with pytest.raises(InputError, match=r"^n is -2: expected at least 0, or None$"):
        whole_number("n", np.int8(-2), 0, ", or None")


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(1), 0])
def test_real_numbers_of_any_type(value: Any) -> None:
    assert type(real_number("x", value, 0, 1)) is float
    assert real_number("x", value) == value


@pytest.mark.parametrize("value", ["1", None, True, [0.5], math.nan, math.inf, -0.1, 1.1])
def test_what_is_no_number_from_0_to_1(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        real_number("x", value, 0, 1)
    assert str(caught.value) == f"x is {value!r}: expected a number from 0 to 1"


def test_bounds_are_told() -> None:
    with pytest.raises(InputError, match=r"^x is -1: expected a number of at least 0$"):
        real_number("x", -1, 0)
    with pytest.raises(InputError, match=r"^x is nan: expected a number that is finite$"):
        real_number("x", math.nan)


def test_values_are_shown_on_one_line() -> None:
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert len(shown(list(range(99)))) == 60
