"""Triton kernels of memory cross-attention; contracts in :mod:`.memory_cross_attention`."""

# Triton reads annotations as compile-time markers, so its functions carry no Python types
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _rotate_pairs(tokens, cos, sin, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    even, odd = tl.split(tl.reshape(tokens, (ROWS, WIDTH // 2, 2)))
    turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    return tl.reshape(turned, (ROWS, WIDTH))


@triton.jit
def _tile(pointer, token, valid, WIDTH: tl.constexpr, RAGGED: tl.constexpr):
    at = pointer + token[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    if RAGGED:
        return tl.load(at, mask=valid[:, None], other=0.0)
    return tl.load(at)


@triton.jit
def _scores(query, key):
    return tl.dot(query, tl.trans(key), input_precision="ieee")


@triton.jit
def _attend(score, value, peak, total, acc):
    # running softmax of FlashAttention (arXiv 2205.14135), in base 2: exp2 is one instruction,
    # and the change of base is part of the multiply-add before it
    new_peak = tl.maximum(peak, tl.max(score, 1) * LOG2_E)
    weight = tl.exp2(score * LOG2_E - new_peak[:, None])
    fade = tl.exp2(peak - new_peak)
    total = total * fade + tl.sum(weight, 1)
    acc = tl.dot(weight.to(value.dtype), value, acc * fade[:, None], input_precision="ieee")
    return new_peak, total, acc


@triton.jit
def memory_cross_attention(
    query_ptr, key_ptr, value_ptr, n_query, n_key, n_split, n_batch, partial_ptr, lse_ptr,
    WIDTH: tl.constexpr, VALUE: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Grid: (tiles of BLOCK_Q queries, pieces of the keys, objects); accumulates in float32."""
    split = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    # n_batch is the number of query batches: one may serve all objects
    query_ptr += (batch % n_batch) * n_query * WIDTH
    key_ptr += batch * n_key * WIDTH
    value_ptr += batch * n_key * VALUE

    rows = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    # as loaded, never computed with: only then do the matrix units read them from shared memory
    query = _tile(query_ptr, rows, rows < n_query, WIDTH, True)

    tiles = tl.cdiv(n_key, BLOCK_K)
    first = split * tiles // n_split
    last = (split + 1) * tiles // n_split
    whole = tl.minimum(last, n_key // BLOCK_K)
    keys = tl.arange(0, BLOCK_K)
    peak = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    acc = tl.zeros((BLOCK_Q, VALUE), tl.float32)
    if first < whole:
        # the next tile's scores are under way while this one's exponentials are taken
        token = first * BLOCK_K + keys
        score = _scores(query, _tile(key_ptr, token, token, WIDTH, False))
        for tile in range(first, whole - 1):
            token = tile * BLOCK_K + keys
            coming = _scores(query, _tile(key_ptr, token + BLOCK_K, token, WIDTH, False))
            value = _tile(value_ptr, token, token, VALUE, False)
            peak, total, acc = _attend(score, value, peak, total, acc)
            score = coming
        token = (whole - 1) * BLOCK_K + keys
        value = _tile(value_ptr, token, token, VALUE, False)
        peak, total, acc = _attend(score, value, peak, total, acc)
    if whole < last:
        # the one ragged tile; masking every tile would cost a compare per score
        token = whole * BLOCK_K + keys
        valid = token < n_key
        score = _scores(query, _tile(key_ptr, token, valid, WIDTH, True))
        score = tl.where(valid[None, :], score, float("-inf"))
        value = _tile(value_ptr, token, valid, VALUE, True)
        peak, total, acc = _attend(score, value, peak, total, acc)

    # a piece without a key writes zeros and lse = -inf, which merge with weight 0
    some = total > 0.0
    acc = tl.where(some[:, None], acc / tl.where(some, total, 1.0)[:, None], 0.0)
    lse = tl.where(some, (peak + tl.log2(tl.where(some, total, 1.0))) * LN_2, float("-inf"))
    row = (batch * n_split + split) * n_query + rows
    channels = tl.arange(0, VALUE)[None, :]
    tl.store(partial_ptr + row[:, None] * VALUE + channels, acc, mask=(rows < n_query)[:, None])
    tl.store(lse_ptr + row, lse, mask=rows < n_query)


@triton.jit
def rotate_keys(
    key_ptr, cos_ptr, sin_ptr, n_key, n_grid, out_ptr,
    WIDTH: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Grid: (tiles of BLOCK_L tokens, 1, objects). Tokens after the last whole grid pass as is."""
    base = tl.program_id(2).to(tl.int64) * n_key * WIDTH
    rows = tl.program_id(0) * BLOCK_L + tl.arange(0, BLOCK_L)
    inside = (rows < n_key)[:, None]
    spatial = (rows < n_key // n_grid * n_grid)[:, None]
    table = (rows % n_grid)[:, None] * (WIDTH // 2) + tl.arange(0, WIDTH // 2)[None, :]
    cos = tl.load(cos_ptr + table, mask=spatial, other=1.0)
    sin = tl.load(sin_ptr + table, mask=spatial, other=0.0)
    at = base + rows[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    key = tl.load(key_ptr + at, mask=inside, other=0.0).to(tl.float32)
    turned = _rotate_pairs(key, cos, sin, BLOCK_L, WIDTH)
    tl.store(out_ptr + at, turned.to(out_ptr.dtype.element_ty), mask=inside)
