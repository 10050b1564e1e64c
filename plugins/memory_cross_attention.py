"""``sam2rt::MemoryCrossAttention``: one query row per pixel attends over the memory bank.

The operator of SAM 2's memory attention (SAM 2 paper, section 4): one head, queries and keys C
wide with rotary embedding (RoFormer, arXiv 2104.09864, two axes), values still at the memory's
own width c because ``out_proj`` and the value projection fold into one matrix applied after it.

Contract, N objects, T query rows = one grid of h*w pixels, L memory tokens:

    query [N or 1,T,C] rotated, scaled by C^-0.5; key [N,L,C] rotated; value [N,L,c]
    -> partial [N,S,T,c] float32, lse [N,S,T] float32

A query batch of 1 is shared by all objects, as on the first layer.

S is the number of pieces the keys were cut into, so that one object fills a GPU: 32 query
tiles alone would leave three quarters of an H100 idle. ``partial[:, s]`` is the normalised
attention over piece s, ``lse`` the natural log of its softmax denominator, up to a constant
per row; :func:`merge` joins them and is exact for any S. The plain ONNX body has S = 1.

Queries and keys come rotated, and queries scaled, as ordinary operators of the graph leave them.
Turning keys in the kernel would repeat the work for every query tile. Queries that a kernel
computes with lie in registers, and on Hopper every matrix instruction then waits for the one
before; as they were loaded, the matrix units read them from shared memory.

:func:`rotate_keys` is how keys are rotated. Memory tokens repeat the grid's table; the tokens
after the last whole grid are object pointers, which are not rotated (as if cos = 1, sin = 0).
That reads the number of pointer tokens off the shapes, and needs fewer of them than T.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import InputError
from .kernel import NAMESPACE, PLUGIN_VERSION, Kernel, Launch

Array = NDArray[Any]

NAME = "MemoryCrossAttention"
INPUTS = ("query", "key", "value")
OUTPUTS = ("partial", "lse")
#: what TensorRT's parser reads to find the plugin of a node
ATTRIBUTES = {"plugin_namespace": NAMESPACE, "plugin_version": PLUGIN_VERSION}


def rotate(tokens: Array, cos: Array, sin: Array) -> Array:
    """Turn adjacent channel pairs: tokens [...,L,C], cos and sin [L,C/2] -> [...,L,C]."""
    even, odd = tokens[..., 0::2], tokens[..., 1::2]
    turned = np.empty(np.broadcast_shapes(tokens.shape), np.result_type(tokens, cos))
    turned[..., 0::2] = even * cos - odd * sin
    turned[..., 1::2] = even * sin + odd * cos
    return turned


def rotate_keys(key: Array, cos: Array, sin: Array) -> Array:
    """Rotate the memory tokens of key [N,L,C] with the grid's table [T,C/2], repeated.

    The L modulo T tokens at the end are object pointers and stay as they are.
    """
    grid = len(cos)
    whole = key.shape[1] // grid
    turned = key.astype(np.result_type(key, cos))
    spatial = turned[:, : whole * grid]
    table = (np.tile(cos, (whole, 1)), np.tile(sin, (whole, 1)))
    turned[:, : whole * grid] = rotate(spatial, *table)
    return turned


def reference(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
    """The operator in float64, S = 1: (partial [N,1,T,c], lse [N,1,T]).

    `query` is rotated and scaled, `key` rotated. Raises InputError when the shapes disagree.
    """
    _check(query, key, value)
    q, k, v = (np.asarray(a, np.float64) for a in (query, key, value))
    scores = q @ k.transpose(0, 2, 1)
    peak = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - peak)
    total = weights.sum(axis=-1, keepdims=True)
    out = (weights / total) @ v
    return out[:, None], (peak + np.log(total))[:, None, :, 0]


def merge(partial: Array, lse: Array) -> Array:
    """Join the pieces: partial [N,S,T,c], lse [N,S,T] -> attention [N,T,c].

    A piece without a key has lse = -inf and weight 0.
    """
    weights = np.exp(lse - lse.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray((partial * weights[..., None]).sum(axis=1))


def _check(query: Array, key: Array, value: Array) -> None:
    n, (shared, _, width) = len(key), query.shape
    fits = (
        shared in (1, n)
        and key.shape == (n, key.shape[1], width)
        and value.shape[:2] == key.shape[:2]
    )
    if not fits:
        raise InputError(
            f"{NAME}: expected query [N or 1,T,C], key [N,L,C], value [N,L,c], "
            f"got {query.shape}, {key.shape}, {value.shape}"
        )


def onnx_function(opset: int) -> str:
    """The plain body as ONNX text, a model-local function; S = 1, lse = 0."""
    return f"""
<domain: "{NAMESPACE}", opset_import: ["" : {opset}]>
{NAME} <plugin_namespace, plugin_version> (query, key, value) => (partial, lse)
{{
  split_axis = Constant <value_ints = [1]> ()
  key_columns = Transpose <perm = [0, 2, 1]> (key)
  scores = MatMul (query, key_columns)
  weights = Softmax <axis = -1> (scores)
  attended = MatMul (weights, value)
  attended32 = Cast <to = 1> (attended)
  partial = Unsqueeze (attended32, split_axis)
  lse_shape = Shape <start = 0, end = 3> (partial)
  lse = ConstantOfShape (lse_shape)
}}
"""


#: memories that a row of queries attends to in the steady state, and keys a piece should have
_MEMORIES, _KEYS_PER_PIECE = 7, 256


def split_count(rows: int, objects: int, multiprocessors: int, block_rows: int = 128) -> int:
    """Pieces to cut the keys into so that the last wave of thread blocks is nearly full.

    One thread block per multiprocessor and wave. The fewest pieces within 2 % of the best use
    are taken, since each piece costs a write and a read of its partial result. Small images have
    few query tiles, so their keys are cut into more pieces, of some hundred keys at least.
    """
    blocks = objects * math.ceil(rows / block_rows)

    def use(pieces: int) -> float:
        total = blocks * pieces
        return total / (math.ceil(total / multiprocessors) * multiprocessors)

    # beyond one full wave, 8 pieces even out the last one
    most = max(8, min(multiprocessors // blocks, _MEMORIES * rows // _KEYS_PER_PIECE))
    counts = range(1, most + 1)
    best = max(use(s) for s in counts)
    return next(s for s in counts if use(s) >= best - 0.02)


def _launch(block_q: int, block_k: int, warps: int, stages: int) -> Launch:
    return Launch({"BLOCK_Q": block_q, "BLOCK_K": block_k}, warps, stages)


ATTENTION = Kernel(
    module="attention_kernels",
    entry="memory_cross_attention",
    signature={
        "query_ptr": "*T", "key_ptr": "*T", "value_ptr": "*T",
        "n_query": "i32", "n_key": "i32", "n_split": "i32", "n_batch": "i32",
        "partial_ptr": "*fp32", "lse_ptr": "*fp32",
    },
    constants={"WIDTH": 256, "VALUE": 64},
    launches={
        80: (_launch(128, 32, 8, 3), _launch(64, 32, 4, 3)),
        86: (_launch(128, 32, 8, 2), _launch(64, 32, 4, 2)),
        # two warpgroups; queries, four tiles of keys and three of values fill 216 of 227 KB
        90: (_launch(128, 64, 8, 3), _launch(128, 64, 8, 2), _launch(64, 64, 4, 3)),
        100: (_launch(128, 64, 8, 3), _launch(128, 128, 8, 2)),
        120: (_launch(64, 32, 4, 2), _launch(128, 32, 8, 2)),
    },
)  # fmt: skip

#: the same for values as wide as keys: self-attention. Where registers hold a result that wide
WIDE_ATTENTION = Kernel(
    module="attention_kernels",
    entry="memory_cross_attention",
    signature=ATTENTION.signature,
    constants={"WIDTH": 256, "VALUE": 256},
    launches={
        90: (_launch(128, 64, 8, 2), _launch(128, 32, 8, 3)),
        100: (_launch(64, 64, 8, 3),),
    },
    architectures=(90, 100),
)

ROTATE_KEYS = Kernel(
    module="attention_kernels",
    entry="rotate_keys",
    signature={
        "key_ptr": "*T", "cos_ptr": "*fp32", "sin_ptr": "*fp32",
        "n_key": "i32", "n_grid": "i32", "out_ptr": "*T",
    },
    constants={"WIDTH": 256},
    launches={80: (Launch({"BLOCK_L": 32}, 4, 1),)},
)  # fmt: skip
