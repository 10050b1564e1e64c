"""Pieces of the exported graphs: folded linear maps, and attention that stays in cache.

Everything here is exact algebra on the reference's weights, done in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.sam2 import Sam2


class Affine(nn.Module):
    """x @ matrix + bias over the last axis.

    The bias keeps the rank of x, [1, ..., 1, out]: ONNX Runtime would fuse a flat one into a
    Gemm, whose broadcast of the bias runs on one thread and costs more than the addition.
    """

    matrix: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, rank: int) -> None:
        """`weight` [out, in] and `bias` [out] as in nn.Linear; `rank` of the x to come."""
        super().__init__()
        self.register_buffer("matrix", weight.detach().float().t().contiguous())
        spread = None if bias is None else bias.detach().float().reshape(*[1] * (rank - 1), -1)
        self.register_buffer("bias", spread)

    def forward(self, x: Tensor) -> Tensor:
        product = x @ self.matrix
        return product if self.bias is None else product + self.bias


def affine(linear: nn.Module, rank: int, scale: float = 1.0) -> Affine:
    """An nn.Linear times a number."""
    assert isinstance(linear, nn.Linear)
    return Affine(linear.weight.double() * scale, linear.bias.double() * scale, rank)


def without_bias(linear: nn.Module, rank: int) -> Affine:
    assert isinstance(linear, nn.Linear)
    return Affine(linear.weight, None, rank)


def out_with_value_bias(out: nn.Module, value: nn.Module, rank: int) -> Affine:
    """The output projection of an attention whose values leave out their bias.

    Rows of attention sum to 1, so out(A (x Wv + bv)) = (A x Wv) Wo + (bv Wo + bo).
    """
    assert isinstance(out, nn.Linear)
    assert isinstance(value, nn.Linear)
    weight = out.weight.double()
    return Affine(weight, out.bias.double() + weight @ value.bias.double(), rank)


def attend(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int] = (0,)) -> Tensor:
    """softmax(q kT) v over the last two axes; queries come scaled.

    `sizes` (see :func:`query_blocks`) cuts the queries into blocks done one after another.
    """
    keys = k.transpose(-1, -2)
    blocks = torch.split(q, list(sizes), dim=-2) if len(sizes) > 1 else (q,)
    parts = [torch.softmax(block @ keys, dim=-1) @ v for block in blocks]
    return torch.cat(parts, dim=-2) if len(parts) > 1 else parts[0]


def query_blocks(queries: int, block: int | None) -> list[int]:
    """Sizes of blocks of at most `block` queries: scores stay small, in memory and in cache."""
    step = block or queries
    return [min(step, queries - start) for start in range(0, queries, step)]


class _Reshape(torch.autograd.Function):
    """ONNX's Reshape: a 0 keeps that dimension. Tracing would compute the shape at run time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])

    @staticmethod
    def symbolic(g: Any, x: Any, shape: tuple[int, ...]) -> Any:
        return g.op("Reshape", x, g.op("Constant", value_t=torch.tensor(shape)))


class _PadGrid(torch.autograd.Function):
    """Zeros to the right of and below [B, H, W, C], the amount a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, amount: int) -> Tensor:
        return F.pad(x, (0, 0, 0, amount, 0, amount))

    @staticmethod
    def symbolic(g: Any, x: Any, amount: int) -> Any:
        pads = torch.tensor([0, 0, 0, 0, 0, amount, amount, 0])
        return g.op("Pad", x, g.op("Constant", value_t=pads))


class _PerRow(torch.autograd.Function):
    """[1, T, C] repeated for each row of another tensor [N, ...] -> [N, T, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        return x.expand(rows.shape[0], -1, -1)

    @staticmethod
    def symbolic(g: Any, x: Any, rows: Any) -> Any:
        count = g.op("Shape", rows, start_i=0, end_i=1)
        ones = g.op("Constant", value_t=torch.tensor([1, 1]))
        return g.op("Expand", x, g.op("Concat", count, ones, axis_i=0))


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Reshape; 0 keeps the dimension at that place, -1 takes what is left."""
    result: Tensor = _Reshape.apply(x, shape)  # type: ignore[no-untyped-call]
    return result


def pad_grid(x: Tensor, amount: int) -> Tensor:
    """[B, H, W, C] -> [B, H + amount, W + amount, C]."""
    result: Tensor = _PadGrid.apply(x, amount)  # type: ignore[no-untyped-call]
    return result


def per_row(x: Tensor, rows: Tensor) -> Tensor:
    """[1, T, C] -> [N, T, C], N being the first dimension of `rows`."""
    result: Tensor = _PerRow.apply(x, rows)  # type: ignore[no-untyped-call]
    return result


Kind = TypeVar("Kind", bound=nn.Module)


def of_kind(modules: nn.ModuleList, kind: type[Kind]) -> list[Kind]:
    """The modules of a list, known to be of one kind."""
    found = [module for module in modules if isinstance(module, kind)]
    assert len(found) == len(modules)
    return found


class GraphModule(nn.Module):
    """Base of the exported modules: inputs and outputs in the order of the graph's contract."""

    def __init__(self, model: Sam2) -> None:
        super().__init__()
        self.config = model.config
