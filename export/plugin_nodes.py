"""Custom operators as ONNX nodes with a plain body beside them.

A node ``sam2rt::<Op>`` travels with a model-local function that holds ordinary ONNX. ONNX
Runtime inlines the body and TensorRT imports it, so the graph depends on no plugin; dropping
the function before parsing leaves the bare node, which a registered plugin then takes.
"""

from __future__ import annotations

import onnx
import torch
from onnx import FunctionProto, ModelProto, NodeProto
from torch import Tensor
from torch.onnx.ops import symbolic_multi_out

from ..plugins import memory_cross_attention as op
from ..plugins.operators import NAMESPACE

OPSET_VERSION = 1


def memory_cross_attention(
    query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor
) -> Tensor:
    """Attention over the memory bank: one node when exported, plain torch otherwise.

    query [N,T,C] unrotated; key [N,L,C] rotated; value [N,L,c]; cos, sin [T,C/2] float32 ->
    [N,T,c] in value's dtype. An exported model needs :func:`with_plugin_functions` afterwards.
    """
    if torch.compiler.is_exporting():
        n, rows, width = query.shape[0], query.shape[1], value.shape[2]
        partial, lse = symbolic_multi_out(
            f"{NAMESPACE}::{op.NAME}",
            (query, key, value, cos, sin),
            dict(op.ATTRIBUTES),
            dtypes=(torch.float32, torch.float32),
            shapes=((n, 1, rows, width), (n, 1, rows)),
            version=OPSET_VERSION,
        )
    else:
        partial, lse = _plain(query, key, value, cos, sin)
    # pieces of the keys are joined here, as many as the backend cut; see plugins
    weights = torch.softmax(lse, dim=1).unsqueeze(-1)
    return (partial * weights).sum(dim=1).to(value.dtype)


def _plain(
    query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    scaled = query.float() * query.shape[-1] ** -0.5
    even, odd = scaled[..., 0::2], scaled[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    scores = turned.flatten(-2).to(key.dtype) @ key.transpose(1, 2)
    partial = (torch.softmax(scores, dim=-1) @ value).float()[:, None]
    return partial, torch.zeros(partial.shape[:3], device=query.device)


def plugin_nodes(model: ModelProto) -> list[NodeProto]:
    """The custom nodes of the main graph, in order."""
    return [node for node in model.graph.node if node.domain == NAMESPACE]


def with_plugin_functions(model: ModelProto, width: int) -> ModelProto:
    """Add the plain body of every custom operator the graph uses; `width` is the query width C.

    Changes and returns `model`. A model without such nodes is left as it is.
    """
    used = {node.op_type for node in plugin_nodes(model)}
    have = {f.name for f in model.functions if f.domain == NAMESPACE}
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for name in sorted(used - have):
        model.functions.append(_function(name, width, opset))
    if used and NAMESPACE not in {o.domain for o in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(NAMESPACE, OPSET_VERSION))
    return model


def _function(name: str, width: int, opset: int) -> FunctionProto:
    if name != op.NAME:
        raise LookupError(f"no plain body for the operator {NAMESPACE}::{name}")
    return onnx.parser.parse_function(op.onnx_function(width, opset))
