"""Kernels beside the engine: equal, bit for bit, to the CPU path."""

from __future__ import annotations

import math

import numpy as np
import pytest
from triton_kernels import run_interpreted, triton_on_path

from sam2rt.plugins import components as component_op
from sam2rt.plugins import pixels as op
from sam2rt.plugins.compiling import compile_kernel
from sam2rt.plugins.kernel import ARCHITECTURES
from sam2rt.plugins.registry import kernels, list_plugins
from sam2rt.runtime.packages import pillow_image
from sam2rt.runtime.pixels import antialias, components, upsample
from sam2rt.runtime.pixels import frame_tensor as pixels

BLOCK = 256
TABLE = pixels._normalised((np.arange(256) / 255.0).astype(np.float32))


def _tiles(count: int) -> int:
    return math.ceil(count / BLOCK)


def _frame(height: int, width: int) -> np.ndarray:
    stream = np.random.default_rng(height * width)
    frame = stream.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # overshoot of the filter at hard edges meets the clipping to 0..255
    frame[: height // 2, : width // 2] = 255
    frame[height // 2 :, : width // 3] = 0
    return frame


SIZES = [(37, 53, 32), (20, 15, 32), (32, 32, 32), (48, 64, 32), (31, 200, 64)]


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_resize_reference_is_pillows(height: int, width: int, size: int) -> None:
    frame = _frame(height, width)
    found = op.resize_normalise(frame, size, TABLE)
    np.testing.assert_array_equal(found, pixels.video_frame_tensor(frame, size))


def test_resize_reference_of_a_portrait_frame_is_pillows_passes_in_the_originals_order() -> None:
    frame = _frame(100, 40)
    image = pillow_image()
    narrow = image.fromarray(frame).resize((64, 100), image.Resampling.BICUBIC)
    small = np.asarray(narrow.resize((64, 64), image.Resampling.BICUBIC))
    found = op.resize_normalise(frame, 64, np.tile(np.arange(256, dtype=np.float32), (3, 1)))
    np.testing.assert_array_equal(found.transpose(1, 2, 0), small)


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_resize_kernels_are_pillows(height: int, width: int, size: int) -> None:
    frame = _frame(height, width)
    narrow = frame
    if width != size:
        first, weights = op.bicubic_taps(width, size)
        narrow = np.zeros((height, size, 3), np.uint8)
        arguments = [frame, first, weights, size, width, weights.shape[1], narrow]
        grid = (_tiles(size * 3), height)
        narrow = run_interpreted("pixel_kernels", "resize_rows", grid, arguments, BLOCK=BLOCK)[-1]
    first, weights = op.bicubic_taps(height, size)
    out = np.full((3, size, size), np.nan, np.float32)
    arguments = [narrow, first, weights, TABLE, size, height, weights.shape[1], out]
    found = run_interpreted(
        "pixel_kernels", "resize_columns_normalise", (_tiles(size * 3), size), arguments,
        BLOCK=BLOCK,
    )[-1]  # fmt: skip
    np.testing.assert_array_equal(found, pixels.video_frame_tensor(frame, size))


def _triangle(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    indices, weights = antialias.antialias_taps(n_in, n_out)
    return indices[0].astype(np.int32), weights


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_antialias_kernels_have_the_bits_of_the_image_path(
    height: int, width: int, size: int
) -> None:
    image = _frame(height, width)
    expected = pixels.image_tensor(image, size)
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    columns, rows = _triangle(width, size), _triangle(height, size)
    found = op.antialias_normalise(image, columns, rows, unit, pixels.MEAN, pixels.STD)
    np.testing.assert_array_equal(found, expected)
    wide = np.full((height, size, 3), np.nan, np.float32)
    arguments = [image, unit, *columns, size, width, len(columns[1]), wide]
    grid = (_tiles(size * 3), height)
    wide = run_interpreted("pixel_kernels", "antialias_rows", grid, arguments, BLOCK=BLOCK)[-1]
    out = np.full((3, size, size), np.nan, np.float32)
    arguments = [wide, *rows, pixels.MEAN, pixels.STD, size, height, len(rows[1]), out]
    entry, grid = "antialias_columns_normalise", (_tiles(size * 3), size)
    found = run_interpreted("pixel_kernels", entry, grid, arguments, BLOCK=BLOCK)[-1]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(50, 70), (16, 16), (9, 300), (33, 12)])
@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_mask_upsampling_has_the_bits_of_the_cpu_path(
    size: tuple[int, int], threshold: float
) -> None:
    logits = np.random.default_rng(3).standard_normal((2, 16, 16)).astype(np.float32)
    # exactly on the threshold, where one rounding more would show
    logits[0, :8] = threshold
    expected = upsample.upsample_mask(logits, size, threshold)
    np.testing.assert_array_equal(op.upsample_mask(logits, size, threshold), expected)
    (y, wy), (x, wx) = (op.lerp_table(16, n) for n in size)
    out = np.full((2, *size), 7, np.uint8)
    arguments = [logits, y, wy, x, wx, threshold, 16, 16, *size, out]
    grid = (_tiles(size[1]), size[0], 2)
    found = run_interpreted("pixel_kernels", "upsample_mask", grid, arguments, BLOCK=BLOCK)[-1]
    np.testing.assert_array_equal(found.astype(bool), expected)


def _planes(kind: str) -> np.ndarray:
    stream = np.random.default_rng(7)
    height, width = 21, 34
    if kind == "noise":
        return stream.standard_normal((3, height, width)).astype(np.float32)
    plane = np.ones((1, height, width), np.float32)
    if kind == "empty":
        return plane
    if kind == "full":
        return -plane
    # one component that winds through the whole plane, and two specks
    plane[0, ::4] = -1
    plane[0, 1::8, -1] = plane[0, 2::8, -1] = plane[0, 3::8, -1] = -1
    plane[0, 5::8, 0] = plane[0, 6::8, 0] = plane[0, 7::8, 0] = -1
    plane[0, 2, 10] = plane[0, 6, 20] = plane[0, 6, 21] = -1
    return plane


@pytest.mark.parametrize("kind", ["noise", "empty", "full", "snake"])
@pytest.mark.parametrize("area", [1, 8, 100])
def test_hole_filling_equals_the_cpu_path(kind: str, area: int) -> None:
    logits = _planes(kind)
    n, h, w = logits.shape
    expected = components.fill_holes(logits, area)
    for plane, wanted in zip(logits, expected, strict=True):
        np.testing.assert_array_equal(component_op.fill_small(plane, area, 0.0, 0.1), wanted)
    grid = (_tiles(h * w), 1, n)
    label, count = np.full(logits.shape, 99, np.int32), np.full(logits.shape, 99, np.int32)
    run = lambda entry, *arguments: run_interpreted(
        "component_kernels", entry, grid, list(arguments), BLOCK=BLOCK
    )
    _, label, count = run("label_pixels", logits, 0.0, 0, h, w, label, count)
    (label,) = run("join_neighbours", h, w, label)
    label, count = run("count_areas", h, w, label, count)
    out = np.full_like(logits, np.nan)
    found = run("fill_small", logits, label, count, area, 0.1, h, w, out)[-1]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("arch", [
    pytest.param(a, marks=() if a == 90 else pytest.mark.slow) for a in ARCHITECTURES
])  # fmt: skip
def test_every_kernel_compiles_and_fits(arch: int) -> None:
    triton_on_path()
    for name, (kind, _, kernel) in kernels().items():
        if kind != "kernel" or arch not in kernel.architectures:
            continue
        if name == "wide_attention":
            # takes a multiprocessor whole; tested beside the operator
            continue
        code = compile_kernel(kernel, arch)
        print(f"sm_{arch} {name}: {code.registers} registers, {code.shared} bytes shared")
        assert code.registers <= 128
        # the assembler may trade a few registers for more threads per multiprocessor
        assert code.spills <= 32
        assert code.warnings == ()
        assert code.shared <= 48 << 10
        assert code.cubin[:4] == b"\x7fELF"


@pytest.mark.parametrize("name", ["upsample_mask", "antialias_rows", "antialias_columns_normalise"])
def test_kernels_of_floats_round_as_numpy_does(name: str) -> None:
    triton_on_path()
    code = compile_kernel(kernels()[name][2], 90)
    assert "fma.rn.f32" not in code.ptx
    # contraction is the assembler's choice as well, unless the rounding is spelled out
    assert "mul.rn.f32" in code.ptx
    assert "mul.f32" not in code.ptx
    assert "div.full" not in code.ptx
    assert ("div.rn.f32" in code.ptx) == (name == "antialias_columns_normalise")


def test_plugins_are_listed_with_architectures_and_hashes() -> None:
    found = {info.name: info for info in list_plugins()}
    assert {"sam2rt::MemoryCrossAttention", "rotate_keys", "upsample_mask", "fill_small"} <= set(
        found
    )
    assert found.pop("wide_attention").architectures == (90, 100)
    assert all(info.architectures == (80, 86, 89, 90, 100, 120) for info in found.values())
    digests = [info.sha256 for info in found.values()]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)
