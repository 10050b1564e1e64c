"""Triton kernels of :mod:`.pixels`; one program writes BLOCK neighbours of one output row."""

# Triton reads annotations as compile-time markers, so its functions carry no Python types
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

#: rounding half of Pillow's fixed-point weights, and their fractional bits
HALF = tl.constexpr(1 << 21)
BITS = tl.constexpr(22)


@triton.jit
def resize_rows(
    x_ptr, first_ptr, weight_ptr, n_out, n_in, n_tap, out_ptr, BLOCK: tl.constexpr
):  # fmt: skip
    """x [rows,n_in,3] -> out [rows,n_out,3]; grid (tiles of n_out * 3, rows)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n_out * 3
    column, channel = at // 3, at % 3
    row = tl.program_id(1).to(tl.int64)
    first = tl.load(first_ptr + column, mask=inside, other=0)
    total = tl.full((BLOCK,), HALF, tl.int32)
    for tap in range(n_tap):
        weight = tl.load(weight_ptr + column * n_tap + tap, mask=inside, other=0)
        source = tl.minimum(first + tap, n_in - 1)
        pixel = tl.load(x_ptr + (row * n_in + source) * 3 + channel, mask=inside, other=0)
        total += weight * pixel.to(tl.int32)
    value = tl.minimum(tl.maximum(total >> BITS, 0), 255)
    tl.store(out_ptr + row * n_out * 3 + at, value.to(tl.uint8), mask=inside)


@triton.jit
def resize_columns_normalise(
    x_ptr, first_ptr, weight_ptr, table_ptr, n_out, n_in, n_tap, out_ptr, BLOCK: tl.constexpr
):  # fmt: skip
    """x [n_in,n_out,3] -> out [3,n_out,n_out]; grid (tiles of n_out * 3, n_out rows)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n_out * 3
    column, channel = at // 3, at % 3
    row = tl.program_id(1)
    first = tl.load(first_ptr + row)
    total = tl.full((BLOCK,), HALF, tl.int32)
    for tap in range(n_tap):
        weight = tl.load(weight_ptr + row * n_tap + tap)
        source = tl.minimum(first + tap, n_in - 1).to(tl.int64)
        pixel = tl.load(x_ptr + source * n_out * 3 + at, mask=inside, other=0)
        total += weight * pixel.to(tl.int32)
    value = tl.minimum(tl.maximum(total >> BITS, 0), 255)
    normalised = tl.load(table_ptr + channel * 256 + value, mask=inside, other=0.0)
    tl.store(out_ptr + (channel * n_out + row) * n_out + column, normalised, mask=inside)


@triton.jit
def antialias_rows(
    x_ptr, table_ptr, first_ptr, weight_ptr, n_out, n_in, n_tap, out_ptr, BLOCK: tl.constexpr
):  # fmt: skip
    """x [rows,n_in,3] uint8 -> out [rows,n_out,3] float32; grid (tiles of n_out * 3, rows)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n_out * 3
    column, channel = at // 3, at % 3
    row = tl.program_id(1).to(tl.int64)
    first = tl.load(first_ptr + column, mask=inside, other=0)
    total = tl.zeros((BLOCK,), tl.float32)
    for tap in range(n_tap):
        weight = tl.load(weight_ptr + tap * n_out + column, mask=inside, other=0.0)
        source = tl.minimum(first + tap, n_in - 1)
        pixel = tl.load(x_ptr + (row * n_in + source) * 3 + channel, mask=inside, other=0)
        total += tl.load(table_ptr + pixel.to(tl.int32), mask=inside, other=0.0) * weight
    tl.store(out_ptr + row * n_out * 3 + at, total, mask=inside)


@triton.jit
def antialias_columns_normalise(
    x_ptr, first_ptr, weight_ptr, mean_ptr, std_ptr, n_out, n_in, n_tap, out_ptr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """x [n_in,n_out,3] -> out [3,n_out,n_out]; grid (tiles of n_out * 3, n_out rows)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n_out * 3
    column, channel = at // 3, at % 3
    row = tl.program_id(1)
    first = tl.load(first_ptr + row)
    total = tl.zeros((BLOCK,), tl.float32)
    for tap in range(n_tap):
        weight = tl.load(weight_ptr + tap * n_out + row)
        source = tl.minimum(first + tap, n_in - 1).to(tl.int64)
        total += tl.load(x_ptr + source * n_out * 3 + at, mask=inside, other=0.0) * weight
    mean = tl.load(mean_ptr + channel, mask=inside, other=0.0)
    std = tl.load(std_ptr + channel, mask=inside, other=1.0)
    # the plain division of the device may be two units off
    normalised = tl.div_rn(total - mean, std)
    tl.store(out_ptr + (channel * n_out + row) * n_out + column, normalised, mask=inside)


@triton.jit
def upsample_mask(
    x_ptr, y_low_ptr, y_weight_ptr, x_low_ptr, x_weight_ptr, threshold, h, w, n_rows, n_columns,
    out_ptr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x [planes,h,w] -> out [planes,n_rows,n_columns]; grid (tiles, rows, planes)."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < n_columns
    row, plane = tl.program_id(1), tl.program_id(2).to(tl.int64)
    left = tl.load(x_low_ptr + column, mask=inside, other=0)
    right = tl.minimum(left + 1, w - 1)
    wx = tl.load(x_weight_ptr + column, mask=inside, other=0.0)
    top = tl.load(y_low_ptr + row)
    bottom = tl.minimum(top + 1, h - 1)
    wy = tl.load(y_weight_ptr + row)
    upper, lower = x_ptr + (plane * h + top) * w, x_ptr + (plane * h + bottom) * w
    # within the two rows first, then between them: the CPU's order of rounding
    high = tl.load(upper + left, mask=inside, other=0.0) * (1.0 - wx)
    high += tl.load(upper + right, mask=inside, other=0.0) * wx
    low = tl.load(lower + left, mask=inside, other=0.0) * (1.0 - wx)
    low += tl.load(lower + right, mask=inside, other=0.0) * wx
    logit = high * (1.0 - wy) + low * wy
    mask = (logit > threshold).to(tl.uint8)
    tl.store(out_ptr + (plane * n_rows + row) * n_columns + column, mask, mask=inside)
