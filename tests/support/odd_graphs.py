"""Files of graphs that a stranger could write: named ones, and any number from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

#: the one file of weights that a case may use, and its size
WEIGHTS = ("w.bin", 4096)


def good_graph() -> ModelProto:
    """A graph of our operators, with weights inside and outside and a function of ours."""
    inside = helper.make_tensor("inside", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    outside = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[4])
    _place(outside, {"location": WEIGHTS[0], "offset": "0", "length": "16"})
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Add", ["x", "inside"], ["a"]),
        helper.make_node("MatMul", ["a", "outside"], ["b"]),
        helper.make_node("Softmax", ["b"], ["c"], axis=0),
        helper.make_node("Constant", [], ["k"], value_ints=[1, 2]),
        helper.make_node("MemoryCrossAttention", ["c"], ["y"], domain="sam2rt", scale=0.5),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, ["N"])], [value("y", 1, ["N"])], [inside, outside]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("sam2rt", 1)]
    body = [helper.make_node("Identity", ["x"], ["y"])]
    function = helper.make_function(
        "sam2rt", "MemoryCrossAttention", ["x"], ["y"], body, opsets[:1], ["scale"]
    )
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)


def _place(tensor: TensorProto, entries: dict[str, str]) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _node(operator: str, domain: str = "") -> Callable[[ModelProto], None]:
    return lambda model: model.graph.node.append(
        helper.make_node(operator, ["x"], ["z"], domain=domain)
    )


def _outside(**entries: str) -> Callable[[ModelProto], None]:
    return lambda model: _place(model.graph.initializer[1], entries)


def _endless(model: ModelProto) -> None:
    body = GraphProto(name="body")
    model.graph.node.append(helper.make_node("Loop", ["m", "c", "x"], ["z"], body=body))


def _hidden_graph(model: ModelProto) -> None:
    """A graph in an operator that has none."""
    model.graph.node[0].attribute.append(helper.make_attribute("body", GraphProto(name="body")))


def _constant_outside(model: ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4])
    _place(tensor, {"location": "/etc/passwd"})
    model.graph.node.append(helper.make_node("Constant", [], ["z"], value=tensor))


def _in_function(operator: str, domain: str = "") -> Callable[[ModelProto], None]:
    return lambda model: model.functions[0].node.append(
        helper.make_node(operator, ["x"], ["z"], domain=domain)
    )


def _other_function(model: ModelProto) -> None:
    model.functions[0].name = "Other"


def _training(model: ModelProto) -> None:
    model.training_info.add()


def _sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add()


def _sparse_attribute(model: ModelProto) -> None:
    model.graph.node[3].attribute.append(
        AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR)
    )
    model.graph.node[3].attribute[-1].sparse_tensor.dims.append(1)


_ODD = "damaged, or written by another exporter"
_PLACE = "weights in a place that no export writes"
CRAFTED: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "endless loop": (_endless, _ODD),
    "loop without a body": (_node("Loop"), "the operator 'Loop', which no export writes"),
    "hidden graph": (_hidden_graph, _ODD),
    "if": (_node("If"), "the operator 'If', which no export writes"),
    "image decoder": (_node("ImageDecoder"), "the operator 'ImageDecoder', which no export writes"),
    "domain of a backend": (
        _node("Attention", "com.microsoft"),
        "the operator 'Attention', which no export writes",
    ),
    "operator of ours elsewhere": (
        _node("Add", "com.microsoft"),
        "the operator 'Add', which no export writes",
    ),
    "escapes": (_node("\x1b[2J"), r"the operator '\x1b[2J', which no export writes"),
    "no operator": (_node(""), "the operator '', which no export writes"),
    "function of functions": (
        _in_function("MemoryCrossAttention", "sam2rt"),
        "the operator 'MemoryCrossAttention', which no export writes",
    ),
    "loop in a function": (_in_function("Loop"), "the operator 'Loop', which no export writes"),
    "another function": (_other_function, "the function 'Other', which no export writes"),
    "another set": (
        lambda model: model.opset_import.add(domain="com.microsoft", version=1),
        "operators of 'com.microsoft', which no export writes",
    ),
    "training": (_training, _ODD),
    "sparse": (_sparse, _ODD),
    "sparse attribute": (_sparse_attribute, _ODD),
    "weights above": (
        _outside(location="../w.bin"),
        "weights in '../w.bin', which the manifest does not list",
    ),
    "weights at a root": (
        _outside(location="/etc/passwd"),
        "weights in '/etc/passwd', which the manifest does not list",
    ),
    "weights in memory": (
        _outside(location="*/_ORT_MEM_ADDR_/*", offset="4096", length="16"),
        "weights in '*/_ORT_MEM_ADDR_/*', which the manifest does not list",
    ),
    "weights nowhere": (_outside(), "weights in '', which the manifest does not list"),
    "weights in a constant": (
        _constant_outside,
        "weights in '/etc/passwd', which the manifest does not list",
    ),
    "weights beyond": (
        _outside(location="w.bin", offset="4090", length="16"),
        "weights beyond the end of 'w.bin'",
    ),
    "odd offset": (_outside(location="w.bin", offset="-1"), _PLACE),
    "long offset": (_outside(location="w.bin", offset="9" * 16), _PLACE),
    "odd key": (_outside(location="w.bin", basepath="/"), _PLACE),
}


def crafted_graph(name: str) -> bytes:
    model = good_graph()
    CRAFTED[name][0](model)
    return bytes(model.SerializeToString())


#: contents that are no message of ours
DAMAGED = [
    b"\x00" * 64, b"\xff" * 64, b"\x3a", b"\x3a\x05ab", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x3b\x3c", b"\x38\x01", b"ORTM" * 8, b"\x7fELF\x02\x01", b"\x3a\x04\x0a\x02\x22\x05",
]  # fmt: skip


def mutated_graphs(seed: int, count: int) -> Iterator[bytes]:
    """The good graph with up to four changed, added, removed or repeated bytes."""
    random, good = np.random.default_rng(seed), good_graph().SerializeToString()
    for _ in range(count):
        content = bytearray(good)
        for _ in range(random.integers(0, 4)):
            at = int(random.integers(len(content)))
            kind = random.integers(5)
            if kind == 0:
                content[at] = random.integers(256)
            elif kind == 1:
                content[at] = (content[at] + random.choice([-1, 1, 8, 128])) % 256
            elif kind == 2:
                content[at:at] = bytes([random.integers(256)])
            elif kind == 3:
                del content[at]
            else:
                content += content[at : at + int(random.integers(40))]
        yield bytes(content)
