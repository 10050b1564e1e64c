"""The attention kernels against numpy, and what the compiler makes of them."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
from triton_kernels import run_interpreted, triton_on_path

from sam2rt.configs.errors import InputError, SessionError
from sam2rt.plugins import memory_cross_attention as op
from sam2rt.plugins.compiling import (
    Compiled,
    compile_kernel,
    ptxas_warnings,
    without_hidden_arguments,
)
from sam2rt.plugins.kernel import ARCHITECTURES, Kernel, Launch

#: dynamic shared memory one block can have, bytes, by compute capability (CUDA programming guide)
SHARED_LIMIT = {
    arch: kilobytes << 10
    for arch, kilobytes in {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}.items()
}


def _inputs(
    n: int, side: int, memories: int, pointers: int, width: int, value: int, seed: int = 0
) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    rows = side * side
    tokens = memories * rows + pointers
    f = np.float32
    return (
        (2 * rng.standard_normal((n, rows, width)) / math.sqrt(width)).astype(f),
        (2 * rng.standard_normal((n, tokens, width))).astype(f),
        rng.standard_normal((n, tokens, value)).astype(f),
    )


def _tables(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    angles = np.random.default_rng(1).uniform(0, 2 * math.pi, (rows, width // 2))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _attend(inputs: tuple[np.ndarray, ...], splits: int, block_q: int, block_k: int):
    query, key, value = inputs
    n, (_, rows, width) = len(key), query.shape
    # poisoned, so that an element nobody writes shows
    partial = np.full((n, splits, rows, value.shape[2]), np.nan, np.float32)
    lse = np.full((n, splits, rows), np.nan, np.float32)
    grid = (math.ceil(rows / block_q), splits, n)
    arguments = [query, key, value, rows, key.shape[1], splits, len(query), partial, lse]
    out = run_interpreted(
        "attention_kernels", "memory_cross_attention", grid, arguments,
        WIDTH=width, VALUE=value.shape[2], BLOCK_Q=block_q, BLOCK_K=block_k,
    )  # fmt: skip
    return out[3], out[4]


@pytest.mark.parametrize(
    ("n", "side", "memories", "pointers", "width", "value", "splits", "block_q", "block_k"),
    [
        (1, 8, 1, 0, 256, 64, 1, 64, 64),
        (2, 8, 3, 64, 256, 64, 2, 64, 64),
        (1, 9, 2, 64, 256, 64, 3, 64, 32),
        (4, 6, 2, 20, 64, 16, 1, 32, 16),
        (3, 5, 7, 3, 64, 16, 4, 16, 32),
        (1, 4, 1, 0, 64, 16, 4, 16, 16),
        # self-attention: values as wide as keys; one whole tile, then none but the ragged one
        (1, 8, 1, 0, 256, 256, 1, 64, 64),
        (2, 6, 1, 0, 64, 64, 2, 32, 16),
        (1, 3, 1, 0, 64, 16, 1, 16, 16),
    ],
)
def test_attention_kernel_equals_numpy(
    n: int, side: int, memories: int, pointers: int, width: int, value: int,
    splits: int, block_q: int, block_k: int,
) -> None:  # fmt: skip
    inputs = _inputs(n, side, memories, pointers, width, value)
    partial, lse = _attend(inputs, splits, block_q, block_k)
    expected, expected_lse = op.reference(*inputs)
    assert not np.isnan(partial).any()
    # float32 sums of some hundred products of size 4
    np.testing.assert_allclose(op.merge(partial, lse), expected[:, 0], rtol=0, atol=2e-5)
    joined = np.log(np.exp(lse.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(joined, expected_lse[:, 0], rtol=0, atol=2e-5)


def test_one_query_may_serve_all_objects() -> None:
    query, key, value = _inputs(3, 5, 2, 7, 64, 16)
    inputs = (query[:1].copy(), key, value)
    partial, lse = _attend(inputs, 2, 16, 16)
    expected, _ = op.reference(*inputs)
    assert expected.shape == (3, 1, 25, 16)
    np.testing.assert_allclose(op.merge(partial, lse), expected[:, 0], rtol=0, atol=2e-5)
    with pytest.raises(InputError, match=r"query \[N or 1,T,C\]"):
        op.reference(query[:2], key, value)


def test_pieces_without_keys_weigh_nothing() -> None:
    inputs = _inputs(1, 4, 1, 0, 64, 16)
    partial, lse = _attend(inputs, 4, 16, 16)
    assert np.isneginf(lse[0, :3]).all()
    assert (partial[0, :3] == 0).all()
    assert np.isfinite(lse[0, 3]).all()


def test_large_scores_stay_finite() -> None:
    query, key, value = _inputs(1, 4, 3, 5, 64, 16)
    inputs = (query * 100, key * 100, value)
    partial, lse = _attend(inputs, 2, 16, 16)
    expected, _ = op.reference(*inputs)
    assert np.abs(lse).max() > 1e4
    # one key wins, ties aside: float32 scores near 1e5 are exact to 1e-2
    np.testing.assert_allclose(op.merge(partial, lse), expected[:, 0], rtol=0, atol=0.05)


@pytest.mark.parametrize(("memories", "pointers"), [(1, 0), (3, 0), (2, 24), (0, 7)])
def test_rotate_keys_kernel_equals_numpy(memories: int, pointers: int) -> None:
    _, key, _ = _inputs(2, 5, memories, pointers, 64, 16)
    cos, sin = _tables(25, 64)
    out = np.full_like(key, np.nan)
    arguments = [key, cos, sin, key.shape[1], len(cos), out]
    grid = (math.ceil(key.shape[1] / 16), 1, 2)
    turned = run_interpreted(
        "attention_kernels", "rotate_keys", grid, arguments, WIDTH=64, BLOCK_L=16
    )[-1]
    expected = op.rotate_keys(key.astype(np.float64), cos, sin)
    np.testing.assert_allclose(turned, expected, rtol=0, atol=2e-6)
    tail = key.shape[1] - pointers
    np.testing.assert_array_equal(turned[:, tail:], key[:, tail:])


def test_reference_attends_as_softmax_and_rotation_is_that_of_complex_numbers() -> None:
    query, key, value = _inputs(2, 4, 2, 3, 64, 16)
    cos, sin = _tables(16, 64)
    turned = (query[..., 0::2] + 1j * query[..., 1::2]) * (cos + 1j * sin)
    flat = np.stack([turned.real, turned.imag], axis=-1).reshape(query.shape)
    np.testing.assert_allclose(op.rotate(query, cos, sin), flat, atol=1e-5)
    scores = np.einsum("ntc,nlc->ntl", query.astype(np.float64), key)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    partial, lse = op.reference(query, key, value)
    np.testing.assert_allclose(partial[:, 0], weights @ value, atol=1e-6)
    np.testing.assert_allclose(lse[:, 0], np.log(np.exp(scores).sum(-1)), atol=1e-5)


def test_reference_refuses_shapes_that_disagree() -> None:
    query, key, value = _inputs(1, 4, 1, 0, 64, 16)
    with pytest.raises(InputError, match="expected query"):
        op.reference(query, key[..., :32], value)


@pytest.mark.parametrize(
    ("rows", "objects", "processors", "pieces"),
    [
        (4096, 1, 132, 4),
        (4096, 2, 132, 2),
        (4096, 4, 132, 1),
        (4096, 1, 32, 1),
        (256, 1, 132, 7),
        # 512 pixels: 8 query tiles, 128 blocks instead of the 64 that 8 pieces give
        (1024, 1, 132, 16),
        (1024, 2, 132, 8),
        (1024, 1, 148, 18),
    ],
)
def test_keys_are_cut_so_that_the_gpu_is_full(
    rows: int, objects: int, processors: int, pieces: int
) -> None:
    assert op.split_count(rows, objects, processors) == pieces


#: registers per thread, bytes of shared memory and waits in the code of every launch, as Triton
#: 3.6.0 makes it. One wait per matrix instruction would mean that none overlaps anything.
TAKES = {
    80: [(238, 106496, 2), (238, 73728, 2)],
    86: [(230, 86016, 2), (224, 53248, 2)],
    89: [(230, 86016, 2), (224, 53248, 2)],
    90: [(180, 221184, 8), (164, 180224, 8), (167, 188416, 8)],
    100: [(125, 188960, 21), (191, 229920, 21)],
    120: [(214, 53248, 2), (212, 86016, 2)],
}
WIDE_TAKES = {90: [(255, 229376, 8), (227, 180224, 8)], 100: [(151, 229920, 21)]}


def _check_compiled(kernel: Kernel, arch: int, launch: Launch, dtype: str) -> Compiled:
    code = compile_kernel(kernel, arch, launch=launch, dtype=dtype)
    print(
        f"sm_{arch} {kernel.entry} {dtype} {dict(launch.constants)} warps {launch.num_warps} "
        f"stages {launch.num_stages}: {code.registers} registers, {code.shared} bytes shared, "
        f"{code.spills} bytes spilled, {code.waits} waits, PTX {code.ptx_version}"
    )
    # C7510 to C7519: matrix instructions that wait for one another
    assert code.warnings == ()
    assert code.shared <= SHARED_LIMIT[arch]
    assert code.registers * code.block <= 65536
    assert code.spills == 0
    # what a driver of CUDA 13.0 still translates
    assert code.ptx_version <= (9, 0)
    assert code.cubin[:4] == b"\x7fELF"
    assert code.ptx.count(f"{code.name}_param_{len(code.arguments) - 1}") >= 2
    assert f"{code.name}_param_{len(code.arguments)}" not in code.ptx
    return code


def _taken(kernel: Kernel, arch: int) -> list[tuple[int, int, int]]:
    """What the code of each launch takes, in bfloat16."""
    codes = [_check_compiled(kernel, arch, x, "bfloat16") for x in kernel.candidates(arch)]
    return [(code.registers, code.shared, code.waits or 0) for code in codes]


@pytest.mark.parametrize("arch", [
    pytest.param(a, marks=() if a == 90 else pytest.mark.slow) for a in ARCHITECTURES
])  # fmt: skip
def test_attention_compiles_and_fits(arch: int) -> None:
    triton_on_path()
    assert _taken(op.ATTENTION, arch) == TAKES[arch]
    wide = arch in op.WIDE_ATTENTION.architectures
    assert (_taken(op.WIDE_ATTENTION, arch) if wide else None) == WIDE_TAKES.get(arch)
    _check_compiled(op.ROTATE_KEYS, arch, op.ROTATE_KEYS.candidates(arch)[0], "bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_attention_compiles_in_half_precision(arch: int) -> None:
    triton_on_path()
    _check_compiled(op.ATTENTION, arch, op.ATTENTION.candidates(arch)[0], "float16")


def test_hopper_uses_its_own_matrix_instructions() -> None:
    triton_on_path()
    code = compile_kernel(op.ATTENTION, 90)
    # 16 steps of 16 channels for the scores: first, next and ragged tile; 4 of 16 keys for the
    # values: in the loop, after it and for the ragged tile
    assert code.ptx.count("wgmma.mma_async.sync.aligned.m64n64k16") == 3 * 16 + 3 * 4
    assert "cp.async.cg.shared" in code.ptx
    # two of the loop's, at most
    assert code.waits is not None
    assert code.waits <= 10
    # queries of the scores come from shared memory: a descriptor, not registers
    assert code.registers <= 184


@pytest.mark.slow
def test_serialised_matrix_instructions_are_told() -> None:
    """A tile too large for the registers, which ptxas then runs one instruction at a time."""
    triton_on_path()
    code = compile_kernel(op.ATTENTION, 90, launch=Launch({"BLOCK_Q": 128, "BLOCK_K": 256}, 4, 1))
    assert any("C75" in line and "serialized" in line for line in code.warnings)
    assert code.waits is not None
    assert code.waits > 60


def test_a_kernel_compiles_where_triton_has_no_disassembler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    triton_on_path()
    tool = importlib.import_module("triton.knobs").env_nvidia_tool
    found = tool.get

    def get(self: Any) -> Any:
        if self.binary.startswith("nvdisasm"):
            raise RuntimeError("Cannot find nvdisasm")
        return found(self)

    monkeypatch.setattr(tool, "get", get)
    code = compile_kernel(op.ROTATE_KEYS, 90)
    assert (code.waits, code.warnings, code.cubin[:4]) == (None, (), b"\x7fELF")


def test_what_ptxas_says_against_code_is_kept() -> None:
    said = (
        "ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async instructions are "
        "serialized\nptxas info    : Used 255 registers, used 1 barriers\n"
        "ptxas warning : Value of threads per SM is out of range\n"
    )
    assert ptxas_warnings(said) == (
        "(C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized",
        "Value of threads per SM is out of range",
    )


def test_hidden_arguments_in_use_are_refused() -> None:
    ptx = (
        ".visible .entry k(\n\t.param .u64 k_param_0,\n\t.param .u64 k_param_1,\n"
        "\t.param .u64 k_param_2\n)\n{\n\tld.param.b64 %rd1, [k_param_1];\n}"
    )
    with pytest.raises(SessionError, match="unused parameters"):
        without_hidden_arguments(ptx, "k", 1)
    free = without_hidden_arguments(ptx.replace("[k_param_1]", "[k_param_0]"), "k", 1)
    assert free.count(".param") == 2
    assert "k_param_1" not in free
