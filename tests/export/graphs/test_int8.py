"""Eight bits: which products are quantised, how far results move, and what the proof says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import OnnxGraph, contract, exported, random_inputs
from golden import recipe_state

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError
from sam2rt.configs.models import model_config
from sam2rt.export.bundle import export_bundle
from sam2rt.export.checkpoint.load import Checkpoint
from sam2rt.export.graphs.int8 import quantised
from sam2rt.export.verify import verify_bundle


def operators(graph: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph.node)


def constant_products(graph: onnx.ModelProto) -> int:
    """Products by a constant matrix."""
    constants = {t.name for t in graph.graph.initializer}
    return sum(n.op_type == "MatMul" and n.input[1] in constants for n in graph.graph.node)


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return quantised(exported("micro", "image_encoder"))


def test_every_product_by_a_constant_is_quantised_and_no_other(graph: onnx.ModelProto) -> None:
    plain = exported("micro", "image_encoder")
    assert constant_products(plain) > 5
    assert operators(graph)["MatMulInteger"] == constant_products(plain)
    assert operators(graph)["MatMul"] == operators(plain)["MatMul"] - constant_products(plain)
    assert operators(graph)["Conv"] == operators(plain)["Conv"] > 0
    kinds = {t.data_type for t in graph.graph.initializer if t.name.endswith("_quantized")}
    assert kinds == {onnx.TensorProto.INT8}


def test_results_move_by_what_eight_bits_lose(graph: onnx.ModelProto) -> None:
    inputs = random_inputs(contract("micro", "image_encoder"), 0, 256, B=1)
    expected = OnnxGraph(exported("micro", "image_encoder"))(inputs)
    found = OnnxGraph(graph)(inputs)
    for name, value in expected.items():
        error = np.abs(found[name] - value).max() / np.abs(value).max()
        assert 1e-4 < error < 0.1, name


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(model_config("micro"), recipe_state("micro"), "0" * 64, "the recipe")


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = tmp_path_factory.mktemp("int8") / "bundle"
    return export_bundle(checkpoint, target, precision="int8", seed=3, threads=1)


def test_the_bundle_says_so_and_only_the_encoder_is_quantised(bundle: Bundle) -> None:
    assert Bundle.load(bundle.path).precision == "int8"
    changed = [
        name
        for name in bundle.graphs
        if operators(onnx.load(bundle.graph_path(name)))["MatMulInteger"]
    ]
    assert changed == ["image_encoder"]


def test_the_proof_measures_the_real_kernels(bundle: Bundle) -> None:
    proof = verify_bundle(bundle.path, threads=1)
    assert not proof["emulated"]
    encoder = proof["outputs"]["image_encoder.image_embed"]
    assert 1e-4 < encoder["max"] / encoder["scale"] < 0.1
    exact = proof["outputs"]["memory_encoder.memory"]
    assert exact["max"] / exact["scale"] < 1e-4


def test_it_has_no_engine_variants(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int8 is for CPUs: export fp32, fp16 or bf16"):
        export_bundle(checkpoint, tmp_path / "b", precision="int8", engine_variants=True)
    assert not (tmp_path / "b").exists()


def test_the_model_is_untouched() -> None:
    before = exported("micro", "image_encoder").SerializeToString()
    quantised(exported("micro", "image_encoder"))
    assert exported("micro", "image_encoder").SerializeToString() == before
