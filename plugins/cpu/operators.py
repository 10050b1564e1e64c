"""The operators' names, and what each computes, as plain ONNX and in numpy.

ATTENTION: query [N or 1.., T, C] scaled, key [N.., L, C], value [N.., L, c] -> [N.., T, c], the
softmax of the scores times the values. LINEAR: x [.., K], weight [K, N] bfloat16 and constant, bias
[N] -> x weight + bias [.., N], after which LINEAR_RELU and LINEAR_GELU apply an activation.
LINEAR_TURNED takes x [.., T, K], and cos and sin [T, N], by which it turns each pair (a, b) of the
N columns to (a, b) cos + (-b, a) sin, as rotary embedding does. All but weights is float32.
``sam2rt::MemoryCrossAttention``, which the library has too, is described in
``plugins.memory_cross_attention``.
"""

from __future__ import annotations

from ..kernel import NAMESPACE

ATTENTION = "Attention"
LINEAR, LINEAR_RELU, LINEAR_GELU = "Linear", "LinearRelu", "LinearGelu"
LINEAR_TURNED = "LinearTurned"

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
_TURNED_BODY = """
  matrix = Cast <to = 1> (weight)
  product = MatMul (x, matrix)
  plain = Add (product, bias)
  last = Constant <value_ints = [-1]> ()
  begin = Constant <value_ints = [0]> ()
  second = Constant <value_ints = [1]> ()
  step = Constant <value_ints = [2]> ()
  end = Constant <value_ints = [9223372036854775807]> ()
  minus = Constant <value_float = -1.0> ()
  even = Slice (plain, begin, end, last, step)
  odd = Slice (plain, second, end, last, step)
  negative = Mul (odd, minus)
  firsts = Unsqueeze (negative, last)
  seconds = Unsqueeze (even, last)
  pairs = Concat <axis = -1> (firsts, seconds)
  shape = Shape (plain)
  partner = Reshape (pairs, shape)
  straight = Mul (plain, cos)
  across = Mul (partner, sin)
  output = Add (straight, across)
"""
_BODIES = {
    ATTENTION: ("query, key, value", _ATTENTION_BODY),
    LINEAR_TURNED: ("x, weight, bias, cos, sin", _TURNED_BODY),
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
