"""The operators' names, and what each computes, as plain ONNX and in numpy.

ATTENTION: query [N or 1.., T, C] scaled, key [N.., L, C], value [N.., L, c] -> [N.., T, c], the
softmax of the scores times the values. LINEAR: x [.., K], weight [K, N] bfloat16 and constant,
bias [N] -> x weight + bias [.., N], after which LINEAR_RELU and LINEAR_GELU apply an activation.
All but weights is float32. ``sam2rt::MemoryCrossAttention``, which the library has too, is
described in ``plugins.memory_cross_attention``.
"""

from __future__ import annotations

from ..kernel import NAMESPACE

ATTENTION = "Attention"
LINEAR, LINEAR_RELU, LINEAR_GELU = "Linear", "LinearRelu", "LinearGelu"

_ATTENTION_BODY = """
  scores = Einsum <equation = "...ij,...kj->...ik"> (query, key)
  weights = Softmax <axis = -1> (scores)
  output = MatMul (weights, value)
"""
_LINEAR_BODY = """
  matrix = Cast <to = 1> (weight)
  product = MatMul (x, matrix)
  output = {sum}
"""
_BODIES = {
    ATTENTION: ("query, key, value", _ATTENTION_BODY),
    LINEAR: ("x, weight, bias", _LINEAR_BODY.format(sum="Add (product, bias)")),
    **{
        name: (
            "x, weight, bias",
            _LINEAR_BODY.format(sum=f"{activation} (sum)").replace(
                "  output", "  sum = Add (product, bias)\n  output"
            ),
        )
        for name, activation in ((LINEAR_RELU, "Relu"), (LINEAR_GELU, "Gelu"))
    },
}


def onnx_function(name: str, opset: int) -> str:
    """The plain body of an operator as ONNX text, a model-local function."""
    inputs, body = _BODIES[name]
    return f'''<domain: "{NAMESPACE}", opset_import: ["" : {opset}]>
{name} ({inputs}) => (output)
{{{body}}}
'''
