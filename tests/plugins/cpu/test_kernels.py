"""The kernels of every kind of unit, against float64 and against each other."""

from __future__ import annotations

import math

import cpu_operators as cpu
import ml_dtypes
import numpy as np
import pytest

from sam2rt.plugins.cpu import library
from sam2rt.plugins.memory_cross_attention import reference

#: half a unit in the last place of a bfloat16, relative
HALF_ULP = 2.0**-9
#: units, and whether their instructions are emulated
KINDS = [("portable", False), ("avx512_bf16", False), ("amx_bf16", True), ("amx_bf16", False)]
#: objects, whether they share queries, rows, keys, width, width of values
SHAPES = [
    (1, False, 96, 256, 256, 64),
    (2, True, 97, 257, 256, 64),
    (3, False, 13, 1, 32, 16),
    (1, False, 1, 33, 96, 96),
    (2, False, 200, 300, 70, 50),
    (1, False, 193, 513, 256, 256),
    (5, False, 64, 64, 96, 96),
    (40, False, 16, 16, 96, 96),
    (2, True, 385, 4 * 64, 256, 64),
]


def require(units: str, emulated: bool) -> None:
    if units == "portable":
        return cpu.require_compiler()
    cpu.require_units()
    if units == "amx_bf16" and not emulated and units not in library.units_here():
        pytest.skip("this processor has no AMX")
    return None


def inputs(shape: tuple[int, bool, int, int, int, int]) -> tuple[np.ndarray, ...]:
    n, shared, rows, keys, width, columns = shape
    rng = np.random.default_rng(rows * keys + width)
    query = 3 * rng.standard_normal((1 if shared else n, rows, width)) / math.sqrt(width)
    key, value = (rng.standard_normal((n, keys, c)) for c in (width, columns))
    return tuple(a.astype(np.float32) for a in (query, key, value))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("units", "emulated"), KINDS)
def test_attention_is_that_of_float64_on_rounded_inputs(
    units: str, emulated: bool, shape: tuple[int, bool, int, int, int, int]
) -> None:
    """Weights alone are rounded beside them: each by half a unit, so their mean by no more."""
    require(units, emulated)
    query, key, value = inputs(shape)
    output, logs = cpu.attention(units, query, key, value, emulated)
    wanted, wanted_logs = reference(*(cpu.rounded(a) for a in (query, key, value)))
    bound = HALF_ULP * np.abs(value).max() + 1e-4
    assert np.abs(output - wanted[:, 0]).max() <= bound
    assert np.abs(logs - wanted_logs[:, 0]).max() <= 2e-5 * max(1.0, np.abs(wanted_logs).max())


@pytest.mark.parametrize("shape", SHAPES[:6], ids=str)
@pytest.mark.parametrize(("units", "emulated"), KINDS[1:])
def test_units_agree(
    units: str, emulated: bool, shape: tuple[int, bool, int, int, int, int]
) -> None:
    """A weight at the edge of two roundings may take either: few do, so the mean is close."""
    require(units, emulated)
    query, key, value = inputs(shape)
    (one, _), (other, _) = (
        cpu.attention(kind, query, key, value, emulated) for kind in (units, "portable")
    )
    assert np.abs(one - other).max() <= 2 * HALF_ULP * np.abs(value).max()
    assert np.abs(one - other).mean() <= 2e-4


@pytest.mark.parametrize(("units", "emulated"), KINDS)
def test_one_key_gives_its_value(units: str, emulated: bool) -> None:
    require(units, emulated)
    query, key, value = inputs((1, False, 20, 1, 64, 48))
    output, _ = cpu.attention(units, query, key, value, emulated)
    assert np.array_equal(output, np.broadcast_to(cpu.rounded(value), output.shape))


@pytest.mark.parametrize(("units", "emulated"), KINDS)
def test_scores_far_apart_leave_the_largest(units: str, emulated: bool) -> None:
    """Earlier blocks shrink to nothing, as do later ones: e^-1000 is 0, never NaN."""
    require(units, emulated)
    query = np.full((1, 3, 32), 1.0, np.float32)
    key = np.zeros((1, 700, 32), np.float32)
    key[0, :, 0] = np.linspace(-2000, 0, 700)
    key[0, 400] = 1000 / 32
    value = np.zeros((1, 700, 16), np.float32)
    value[0, :, 0], value[0, 400, 0] = 7, 3
    output, logs = cpu.attention(units, query, key, value, emulated)
    assert (output[..., 0] == 3).all()
    assert (output[..., 1:] == 0).all()
    assert np.allclose(logs, 32 * cpu.rounded(np.float32(1000 / 32)))


@pytest.mark.parametrize(("units", "emulated"), KINDS)
def test_nan_is_not_hidden(units: str, emulated: bool) -> None:
    require(units, emulated)
    query, key, value = inputs((1, False, 30, 40, 64, 48))
    query[0, 7, 5] = np.nan
    output, _ = cpu.attention(units, query, key, value, emulated)
    assert np.isnan(output[0, 7]).all()
    assert np.isfinite(np.delete(output[0], 7, axis=0)).all()


@pytest.mark.parametrize("activation", [0, 1, 2])
@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 70, 50), (97, 256, 64), (200, 64, 33)], ids=str)
@pytest.mark.parametrize(("units", "emulated"), KINDS)
def test_dense_layer_is_that_of_float64_on_rounded_inputs(
    units: str, emulated: bool, shape: tuple[int, int, int], activation: int
) -> None:
    require(units, emulated)
    rows, depth, columns = shape
    rng = np.random.default_rng(depth)
    x = rng.standard_normal((rows, depth)).astype(np.float32)
    weight = (rng.standard_normal((depth, columns)) / 4).astype(ml_dtypes.bfloat16)
    bias = rng.standard_normal(columns).astype(np.float32)
    output = cpu.dense(units, x, weight, bias, activation, emulated)
    a, w = cpu.rounded(x), weight.astype(np.float64)
    wanted = a @ w + bias
    if activation == 1:
        wanted = np.maximum(wanted, 0)
    if activation == 2:
        erf = np.vectorize(math.erf)
        wanted = wanted * (1 + erf(wanted / math.sqrt(2))) / 2
    bound = 1e-6 * (np.abs(a) @ np.abs(w) + np.abs(bias))
    assert (np.abs(output - wanted) <= bound + 1e-7).all()


@pytest.mark.parametrize("shape", [(30, 64, 50), (194, 64, 256)], ids=str)
@pytest.mark.parametrize(("units", "emulated"), KINDS)
def test_turned_layer_is_that_of_float64_on_rounded_inputs(
    units: str, emulated: bool, shape: tuple[int, int, int]
) -> None:
    """The tables are of half the rows: the second half begins with their first row again."""
    require(units, emulated)
    rows, depth, columns = shape
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((rows, depth)).astype(np.float32)
    weight = (rng.standard_normal((depth, columns)) / 8).astype(ml_dtypes.bfloat16)
    bias = rng.standard_normal(columns).astype(np.float32)
    angles = rng.uniform(0, 7, (rows // 2, columns))
    tables = (np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
    output = cpu.dense(units, x, weight, bias, 0, emulated, tables)
    plain = cpu.rounded(x) @ weight.astype(np.float64) + bias
    partner = np.empty_like(plain)
    partner[:, 0::2], partner[:, 1::2] = -plain[:, 1::2], plain[:, 0::2]
    cos, sin = (np.tile(table, (2, 1)) for table in tables)
    assert np.abs(output - (plain * cos + partner * sin)).max() < 2e-5


def test_without_a_bias() -> None:
    cpu.require_compiler()
    x, weight = np.ones((3, 4), np.float32), np.ones((4, 5), ml_dtypes.bfloat16)
    assert (cpu.dense("portable", x, weight, None, 0) == 4).all()
