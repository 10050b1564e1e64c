"""The operators as ONNX Runtime runs them: the numbers, and the same bits every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cpu_operators as cpu
import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from sam2rt.plugins.cpu import library, operators
from sam2rt.plugins.memory_cross_attention import onnx_function, reference

ROOT = Path(__file__).resolve().parents[3]
HEADERS = ROOT / "build" / "cpp" / "deps" / "root" / "usr" / "include" / "onnxruntime"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled as a user compiles it."""
    cpu.require_units()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return library.build().path


def session(
    nodes: list[onnx.NodeProto],
    outputs: int,
    constants: list[TensorProto],
    library_file: Path | None,
    threads: int = 2,
) -> Any:
    made = {name for node in nodes for name in node.output} | {t.name for t in constants}
    inputs = [name for node in nodes for name in node.input if name not in made]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    graph = helper.make_graph(
        nodes, "test", [value(x) for x in inputs],
        [value(x) for x in nodes[-1].output[:outputs]], constants,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("sam2rt", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    name = nodes[0].op_type
    text = onnx_function(20) if name.startswith("Memory") else operators.onnx_function(name, 20)
    model.functions.append(onnx.parser.parse_function(text))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library_file is not None:
        options.register_custom_ops_library(str(library_file))
    return ort.InferenceSession(model.SerializeToString(), options)


def node(name: str, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, domain="sam2rt")


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(shapes))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_cross_attention_keeps_its_contract(path: Path) -> None:
    """query [1,T,C] for all objects -> partial [N,1,T,c] and lse [N,1,T]."""
    query, key, value = arrays((1, 130, 64), (3, 77, 64), (3, 77, 16))
    query /= 8
    given = {"query": query, "key": key, "value": value}
    made = session([node("MemoryCrossAttention", [*given], ["partial", "lse"])], 2, [], path)
    partial, lse = made.run(None, given)
    wanted, wanted_lse = reference(*(cpu.rounded(a) for a in given.values()))
    assert partial.shape == wanted.shape == (3, 1, 130, 16)
    assert np.abs(partial - wanted).max() <= 2.0**-9 * np.abs(value).max() + 1e-4
    assert np.abs(lse - wanted_lse).max() <= 1e-4


@pytest.mark.parametrize("lead", [(2,), (3, 4), (1, 1)])
def test_attention_and_its_plain_body_agree(path: Path, lead: tuple[int, ...]) -> None:
    """The node runs, not its body: that one knows no rounding."""
    query, key, value = arrays((*lead, 50, 32), (*lead, 70, 32), (*lead, 70, 48))
    given = {"query": query / 6, "key": key, "value": value}
    nodes = [node("Attention", [*given], ["output"])]
    (ours,), (plain,) = (session(nodes, 1, [], p).run(None, given) for p in (path, None))
    assert ours.shape == plain.shape == (*lead, 50, 48)
    difference = np.abs(ours - plain)
    assert 1e-4 < difference.max() < 0.05
    assert difference.mean() < 5e-3


@pytest.mark.parametrize("name", ["Linear", "LinearRelu", "LinearGelu"])
def test_dense_layer_and_its_plain_body_agree(path: Path, name: str) -> None:
    x, weight, bias = arrays((2, 3, 200, 40), (40, 70), (70,))
    low = weight.astype(ml_dtypes.bfloat16)
    constants = [
        helper.make_tensor("weight", TensorProto.BFLOAT16, low.shape, low.tobytes(), raw=True),
        helper.make_tensor("bias", TensorProto.FLOAT, bias.shape, bias.tobytes(), raw=True),
    ]
    nodes = [node(name, ["x", "weight", "bias"], ["output"])]
    # inputs that are bfloat16 already are rounded by neither
    given = {"x": cpu.rounded(x).astype(np.float32)}
    (ours,), (plain,) = (session(nodes, 1, constants, p).run(None, given) for p in (path, None))
    assert ours.shape == plain.shape == (2, 3, 200, 70)
    assert np.abs(ours - plain).max() < 2e-5


def test_turned_layer_and_its_plain_body_agree(path: Path) -> None:
    x, weight, bias, cos, sin = arrays((2, 3, 50, 40), (40, 70), (70,), (50, 70), (50, 70))
    low = weight.astype(ml_dtypes.bfloat16)
    constants = [
        helper.make_tensor("weight", TensorProto.BFLOAT16, low.shape, low.tobytes(), raw=True)
    ]
    names = ["x", "weight", "bias", "cos", "sin"]
    nodes = [node("LinearTurned", names, ["output"])]
    given = {"x": cpu.rounded(x).astype(np.float32), "bias": bias, "cos": cos, "sin": sin}
    (ours,), (plain,) = (session(nodes, 1, constants, p).run(None, given) for p in (path, None))
    assert ours.shape == plain.shape == (2, 3, 50, 70)
    assert np.abs(ours - plain).max() < 5e-5
    given["cos"] = given["sin"] = cos[:49]
    with pytest.raises(Exception, match=r"expected input \[.., T, K\], cos and sin \[T, N\]"):
        session(nodes, 1, constants, path).run(None, given)


@pytest.mark.parametrize("shapes", [(700, 900), (60, 60)])
def test_threads_and_repetition_change_no_bit(path: Path, shapes: tuple[int, int]) -> None:
    rows, keys = shapes
    query, key, value = arrays((5, rows, 64), (5, keys, 64), (5, keys, 64))
    given = {"query": query / 8, "key": key, "value": value}
    nodes = [node("Attention", [*given], ["output"])]
    one, two = (session(nodes, 1, [], path, threads) for threads in (1, 2))
    (wanted,) = one.run(None, given)
    for _ in range(3):
        assert np.array_equal(one.run(None, given)[0], wanted)
        assert np.array_equal(two.run(None, given)[0], wanted)


def test_an_object_alone_has_the_bits_it_has_among_others(path: Path) -> None:
    query, key, value = arrays((4, 300, 64), (4, 500, 64), (4, 500, 16))
    made = session([node("Attention", ["query", "key", "value"], ["output"])], 1, [], path)
    (all_four,) = made.run(None, {"query": query, "key": key, "value": value})
    for i in range(4):
        own = {"query": query[i : i + 1], "key": key[i : i + 1], "value": value[i : i + 1]}
        assert np.array_equal(made.run(None, own)[0], all_four[i : i + 1])


@pytest.mark.parametrize(
    "shapes",
    [((2, 5, 32), (3, 6, 32), (3, 6, 16)), ((1, 5, 32), (1, 6, 31), (1, 6, 16)),
     ((1, 5, 32), (1, 6, 32), (1, 7, 16)), ((1, 5, 32), (1, 0, 32), (1, 0, 16))],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(path: Path, shapes: Any) -> None:
    made = session([node("Attention", ["query", "key", "value"], ["output"])], 1, [], path)
    given = dict(zip(("query", "key", "value"), arrays(*shapes), strict=True))
    with pytest.raises(Exception, match="with a key at least"):
        made.run(None, given)


def test_declarations_are_where_the_vendors_header_has_them() -> None:
    cpu.require_compiler()
    if not (HEADERS / "onnxruntime_c_api.h").is_file():
        pytest.skip("headers of ONNX Runtime are missing: run 'make cpp'")
    source = Path(__file__).with_name("abi_check.cpp")
    folders = [f"-I{folder}" for folder in (HEADERS, cpu.SOURCES)]
    cpu.run(["c++", "-std=c++17", "-fsyntax-only", *folders, str(source)])
