"""Triton kernels of :mod:`.components`: union-find over the pixels of each plane."""

# Triton reads annotations as compile-time markers, so its functions carry no Python types
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def _place(h, w, BLOCK: tl.constexpr):
    """Pixel number within its plane, whether it exists, and where the plane begins."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return at, at < h * w, tl.program_id(2).to(tl.int64) * h * w


@triton.jit
def _root(label_ptr, at, active):
    parent = tl.load(label_ptr + at, mask=active, other=0)
    moving = active & (parent != at)
    while tl.sum(moving.to(tl.int32), 0) > 0:
        at = tl.where(moving, parent, at)
        # another program may lower it meanwhile: bypass the first-level cache
        parent = tl.load(label_ptr + at, mask=active, other=0, cache_modifier=".cg")
        moving = active & (parent != at)
    return at


@triton.jit
def _join(label_ptr, a, b, active):
    a = _root(label_ptr, a, active)
    b = _root(label_ptr, b, active)
    active = active & (a != b)
    while tl.sum(active.to(tl.int32), 0) > 0:
        high, low = tl.maximum(a, b), tl.minimum(a, b)
        found = tl.atomic_min(label_ptr + high, low, mask=active)
        # it was a root, and now hangs below `low`; if not, join what it hung below instead
        active = active & (found != high)
        a = _root(label_ptr, tl.where(active, found, 0), active)
        b = _root(label_ptr, tl.where(active, low, 0), active)
        active = active & (a != b)


@triton.jit
def label_pixels(
    logit_ptr, threshold, above, h, w, label_ptr, area_ptr, BLOCK: tl.constexpr
):  # fmt: skip
    at, inside, plane = _place(h, w, BLOCK)
    logit = tl.load(logit_ptr + plane + at, mask=inside, other=0.0)
    member = ((above == 0) & (logit <= threshold)) | ((above != 0) & (logit > threshold))
    tl.store(label_ptr + plane + at, tl.where(member, at, -1), mask=inside)
    tl.store(area_ptr + plane + at, tl.zeros((BLOCK,), tl.int32), mask=inside)


@triton.jit
def join_neighbours(h, w, label_ptr, BLOCK: tl.constexpr):
    at, inside, plane = _place(h, w, BLOCK)
    label_ptr += plane
    member = tl.load(label_ptr + at, mask=inside, other=-1) >= 0
    x, y = at % w, at // w
    for step in tl.static_range(4):
        # left, upper left, up, upper right: the other four join us from their side
        dx = -1 if step < 2 else step - 2
        dy = 0 if step == 0 else -1
        there = member & (x + dx >= 0) & (x + dx < w) & (y + dy >= 0)
        near = tl.where(there, at + dy * w + dx, 0)
        there = there & (tl.load(label_ptr + near, mask=there, other=-1) >= 0)
        _join(label_ptr, at, near, there)


@triton.jit
def count_areas(h, w, label_ptr, area_ptr, BLOCK: tl.constexpr):
    at, inside, plane = _place(h, w, BLOCK)
    label = tl.load(label_ptr + plane + at, mask=inside, other=-1)
    member = label >= 0
    root = _root(label_ptr + plane, tl.where(member, label, 0), member)
    # roots keep their own label, so others may still read them
    tl.store(label_ptr + plane + at, root, mask=member)
    tl.atomic_add(area_ptr + plane + root, tl.full((BLOCK,), 1, tl.int32), mask=member)


@triton.jit
def fill_small(
    logit_ptr, label_ptr, area_ptr, most, value, h, w, out_ptr, BLOCK: tl.constexpr
):  # fmt: skip
    at, inside, plane = _place(h, w, BLOCK)
    logit = tl.load(logit_ptr + plane + at, mask=inside, other=0.0)
    root = tl.load(label_ptr + plane + at, mask=inside, other=-1)
    area = tl.load(area_ptr + plane + root, mask=inside & (root >= 0), other=0)
    small = (root >= 0) & (area <= most)
    tl.store(out_ptr + plane + at, tl.where(small, value, logit), mask=inside)
