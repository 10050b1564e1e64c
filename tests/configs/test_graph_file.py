"""Graphs hold what our exporters write, and are looked at before any backend opens them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from odd_graphs import CRAFTED, DAMAGED, WEIGHTS, crafted_graph, good_graph, mutated_graphs
from odd_manifests import signed
from onnx import ModelProto, NodeProto, TensorProto

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import BundleError
from sam2rt.configs.formats.graph_file import GraphError, check_graph, operators
from sam2rt.configs.formats.manifest import MANIFEST, REMEDY

LISTED = dict([WEIGHTS])


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_graphs_are_refused(name: str) -> None:
    with pytest.raises(GraphError) as caught:
        check_graph(crafted_graph(name), LISTED)
    assert str(caught.value) == CRAFTED[name][1]


@pytest.mark.parametrize("content", [b"", *DAMAGED], ids=range(len(DAMAGED) + 1))
def test_other_files_are_no_graphs(content: bytes) -> None:
    with pytest.raises(GraphError, match=r"damaged, or written by another exporter|0 graphs"):
        check_graph(content, LISTED)


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    yield from (a.t for node in _nodes(model) for a in node.attribute if a.HasField("t"))


def test_what_is_taken_is_what_protobuf_reads() -> None:
    """No change of bytes hides an operator, a graph inside one, or a file from our reader."""
    allowed = {("", name) for name in operators()["operators"]}
    allowed |= {(operators()["domain"], name) for name in operators()["functions"]}
    taken = 0
    for content in mutated_graphs(seed=3, count=4000):
        try:
            check_graph(content, LISTED)
            model = ModelProto.FromString(content)
        except Exception:  # refused by us, or no message for protobuf
            continue
        taken += 1
        assert {(node.domain, node.op_type) for node in _nodes(model)} <= allowed
        assert not any(a.HasField("g") or a.graphs for n in _nodes(model) for a in n.attribute)
        for tensor in _tensors(model):
            if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
                assert [e.value for e in tensor.external_data if e.key == "location"] == ["w.bin"]
    assert 500 < taken < 3500


def _replace_graph(bundle: Path, content: bytes) -> Path:
    """Put another graph into a bundle, with its hash and size made right."""
    path = bundle / "mask_prompt.onnx"
    path.write_bytes(content)
    data = json.loads((bundle / MANIFEST).read_text())
    sha256 = hashlib.sha256(content).hexdigest()
    data["graphs"]["mask_prompt"] |= {"sha256": sha256, "size": len(content)}
    (bundle / MANIFEST).write_text(json.dumps(signed(data)))
    return path


@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_bundle_with_an_endless_loop_is_never_opened(
    bundle_path: Path, check_hashes: bool
) -> None:
    path = _replace_graph(bundle_path, crafted_graph("loop without a body"))
    why = "the operator 'Loop', which no export writes"
    with pytest.raises(BundleError) as caught:
        Bundle.load(bundle_path, check_hashes=check_hashes)
    assert str(caught.value) == f"{path} is no graph of a bundle ({why}): {REMEDY}"


def test_weights_have_to_be_listed(bundle_path: Path) -> None:
    """Neither a file beside the graph nor one above the folder is opened unlisted."""
    (bundle_path / "w.bin").write_bytes(bytes(4096))
    path = _replace_graph(bundle_path, good_graph().SerializeToString())
    why = "weights in 'w.bin', which the manifest does not list"
    with pytest.raises(BundleError) as caught:
        Bundle.load(bundle_path)
    assert str(caught.value) == f"{path} is no graph of a bundle ({why}): {REMEDY}"
    data = json.loads((bundle_path / MANIFEST).read_text())
    sha256 = hashlib.sha256(bytes(4096)).hexdigest()
    data["graphs"]["mask_prompt"]["external"] = [{"path": "w.bin", "sha256": sha256, "size": 4096}]
    (bundle_path / MANIFEST).write_text(json.dumps(signed(data)))
    assert Bundle.load(bundle_path).graphs["mask_prompt"].external[0].size == 4096


def test_a_graph_in_another_format_is_refused_by_its_name(bundle_path: Path) -> None:
    data = json.loads((bundle_path / MANIFEST).read_text())
    (bundle_path / "mask_prompt.onnx").rename(bundle_path / "mask_prompt.ort")
    data["graphs"]["mask_prompt"]["path"] = "mask_prompt.ort"
    (bundle_path / MANIFEST).write_text(json.dumps(signed(data)))
    with pytest.raises(BundleError, match=r"\(expected a file \.onnx of at most 67108864 bytes\)"):
        Bundle.load(bundle_path)
