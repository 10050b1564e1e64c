"""The ONNX operators our exporters write, as torch calls; opset 18 to 20.

Each takes the node's attributes and its inputs, None for those left out, and gives one tensor or
a tuple. Inputs listed in :data:`HOST_INPUTS` decide shapes: they lie on the host, so that a CUDA
graph can capture the work. Results are those of the operator's specification; sums of half
precision tensors accumulate in float32, as torch does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]

#: torch's types by ONNX's number of them
DTYPES: Mapping[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}

#: inputs that are read as numbers, by operator
HOST_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Slice": (1, 2, 3, 4),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Split": (1,),
    "ReduceSum": (1,),
    "ReduceMax": (1,),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "ConstantOfShape": (0,),
}


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that those shapes have in common, by the rules of numpy."""
    common: tuple[int, ...] = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return common


def _numbers(tensor: Tensor) -> list[int]:
    return [int(value) for value in tensor.tolist()]


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = _numbers(shape)
    if not a.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    if -1 in sizes and 0 in x.shape:
        # torch refuses to infer a size of an empty tensor where several would do
        known = 1
        for size in sizes:
            known *= max(size, 1)
        sizes[sizes.index(-1)] = x.numel() // known
    return x.reshape(sizes)


def _expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = broadcast(x.shape, _numbers(shape))
    return x.expand(sizes)


def _slice(
    a: Attributes,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = _numbers(starts)
    dims = list(range(len(first))) if axes is None else _numbers(axes)
    strides = [1] * len(first) if steps is None else _numbers(steps)
    index: list[slice] = [slice(None)] * x.ndim
    for dim, start, end, step in zip(dims, first, _numbers(ends), strides, strict=True):
        index[dim] = slice(start, end, step)
    return x[tuple(index)]


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_numbers(axes)))


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    count = x.ndim + axes.numel()
    for axis in sorted(axis % count for axis in _numbers(axes)):
        x = x.unsqueeze(axis)
    return x


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    if sizes is not None:
        return torch.split(x, _numbers(sizes), axis)
    # the last piece is the smaller one
    return torch.split(x, -(-x.shape[axis] // a["num_outputs"]), axis)


def _gather(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    flat = index.reshape(-1).to(torch.int64)
    # indices from the end of the axis
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    found = x.index_select(axis, flat)
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _pad(
    a: Attributes,
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    if a.get("mode", "constant") != "constant":
        raise NotImplementedError(f"Pad of mode {a['mode']}")
    dims = list(range(x.ndim)) if axes is None else [d % x.ndim for d in _numbers(axes)]
    amounts = _numbers(pads)
    sides = {d: (amounts[i], amounts[i + len(dims)]) for i, d in enumerate(dims)}
    flat = [n for d in reversed(range(x.ndim)) for n in sides.get(d, (0, 0))]
    return F.pad(x, flat, value=0.0 if value is None else float(value))


def _resize(
    a: Attributes,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    if sizes is not None:
        target = _numbers(sizes)[2:]
    else:
        assert scales is not None
        target = [int(n * f) for n, f in zip(x.shape, scales.tolist(), strict=True)][2:]
    kind = (a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel"))
    if kind == ("linear", "half_pixel") and not a.get("antialias", 0):
        return F.interpolate(x, target, mode="bilinear", align_corners=False)
    if kind == ("nearest", "asymmetric") and a.get("nearest_mode") == "floor":
        return F.interpolate(x, target, mode="nearest")
    raise NotImplementedError(f"Resize of {kind}")


def _symmetric(a: Attributes) -> list[int]:
    pads = list(a.get("pads", (0, 0, 0, 0)))
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise NotImplementedError(f"convolution with pads {pads}")
    return pads[:half]


def _conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    stride, dilation = a.get("strides", (1, 1)), a.get("dilations", (1, 1))
    return F.conv2d(x, w, b, stride, _symmetric(a), dilation, a.get("group", 1))


def _conv_transpose(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    stride, group = a.get("strides", (1, 1)), a.get("group", 1)
    return F.conv_transpose2d(x, w, b, stride, _symmetric(a), groups=group)


def _gemm(a: Attributes, x: Tensor, y: Tensor, c: Tensor | None = None) -> Tensor:
    left = x.transpose(0, 1) if a.get("transA", 0) else x
    right = y.transpose(0, 1) if a.get("transB", 0) else y
    product: Tensor = left @ right * a.get("alpha", 1.0)
    return product if c is None else product + c * a.get("beta", 1.0)


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.ndim
    return F.layer_norm(x, x.shape[axis:], scale, bias, a.get("epsilon", 1e-5))


def _reduced(reduce: Operator) -> Operator:
    def run(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        dims = list(range(x.ndim)) if axes is None else _numbers(axes)
        result: Tensor = reduce(x, dims, bool(a.get("keepdims", 1)))
        return result

    return run


def _shape(a: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[a.get("start", 0) : a.get("end")], dtype=torch.int64)


def _constant(a: Attributes) -> Tensor:
    (name, value), *more = a.items()
    if more or name == "value_string":
        raise NotImplementedError(f"Constant with {list(a)}")
    if name == "value":
        return value  # type: ignore[no-any-return]
    return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64)


def _divide(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _maximum(a: Attributes, first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = torch.maximum(first, other)
    return first


def _plain(function: Operator) -> Operator:
    return lambda a, *inputs: function(*inputs)


#: operators that are one torch function of their inputs
_SAME: Mapping[str, Operator] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Cos": torch.cos,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Identity": lambda x: x,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Sub": torch.sub,
    "Where": torch.where,
}

OPERATORS: Mapping[str, Operator] = {
    **{name: _plain(function) for name, function in _SAME.items()},
    "Cast": lambda a, x: x.to(DTYPES[a["to"]]),
    "CastLike": lambda a, x, like: x.to(like.dtype),
    "Concat": lambda a, *inputs: torch.cat(inputs, a["axis"]),
    "Constant": _constant,
    "ConstantOfShape": lambda a, shape: torch.full(
        _numbers(shape),
        a["value"].item() if "value" in a else 0.0,
        dtype=a["value"].dtype if "value" in a else torch.float32,
    ),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _divide,
    "Expand": _expand,
    "Gather": _gather,
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", "none")),
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "Max": _maximum,
    "Pad": _pad,
    "ReduceMax": _reduced(torch.amax),
    "ReduceSum": _reduced(torch.sum),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    # of one head, or several, without a mask
    "Attention": lambda a, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=a.get("scale")),
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}
