"""Weights that graphs share: kept once, mapped by sessions, the same results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import OnnxGraph, contract, exported, random_inputs

from sam2rt.export.graphs.weights_file import ALIGNMENT, SMALLEST, WeightsFile


def copy_of(graph: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    return made


@pytest.fixture
def encoder() -> onnx.ModelProto:
    return exported("micro", "memory_encoder")


def test_results_are_those_of_the_whole_graph(encoder: onnx.ModelProto, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole.onnx", tmp_path / "shared.onnx"
    onnx.save_model(encoder, whole)
    with WeightsFile(tmp_path) as weights:
        assert weights.write(copy_of(encoder), shared)
    onnx.checker.check_model(str(shared))
    assert shared.stat().st_size < 100_000 < weights.path.stat().st_size
    inputs = random_inputs(contract("micro", "memory_encoder"), 0, 256, N=1, I=1)
    expected = OnnxGraph(str(whole))(inputs)["memory"]
    np.testing.assert_array_equal(OnnxGraph(str(shared))(inputs)["memory"], expected)


def test_equal_tensors_are_kept_once(encoder: onnx.ModelProto, tmp_path: Path) -> None:
    with WeightsFile(tmp_path) as weights:
        weights.write(copy_of(encoder), tmp_path / "a.onnx")
    once = weights.path.stat().st_size
    with WeightsFile(tmp_path) as weights:
        for name in "ab":
            weights.write(copy_of(encoder), tmp_path / f"{name}.onnx")
    assert weights.path.stat().st_size == once
    first, second = (onnx.load(tmp_path / f"{n}.onnx") for n in "ab")
    assert first.SerializeToString() == second.SerializeToString()


def test_small_tensors_stay_and_large_ones_start_on_pages(
    encoder: onnx.ModelProto, tmp_path: Path
) -> None:
    with WeightsFile(tmp_path) as weights:
        weights.write(copy_of(encoder), tmp_path / "a.onnx")
    data = weights.path.read_bytes()
    before = {t.name: t.raw_data for t in encoder.graph.initializer}
    kept = onnx.load(tmp_path / "a.onnx", load_external_data=False).graph.initializer
    outside = 0
    for tensor in kept:
        where = {entry.key: entry.value for entry in tensor.external_data}
        if where:
            outside += 1
            start, length = int(where["offset"]), int(where["length"])
            assert start % ALIGNMENT == 0
            assert length >= SMALLEST
            assert data[start : start + length] == before[tensor.name]
        else:
            assert len(tensor.raw_data) < SMALLEST
            assert tensor.raw_data == before[tensor.name]
    assert outside > 10
