"""Objects of one call tracked sequentially: the same results in the memory of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from recorded import CallLog
from square_clip import BOX, CLICK, moving_square

from sam2rt import StreamTracker
from sam2rt.configs.bundle import Bundle, BundleFile
from sam2rt.configs.graphs import TRACK_FRAME, TRACK_OBJECT, TRACK_STEP, per_object_specs
from sam2rt.export.proof.compare import compare
from sam2rt.export.proof.record import load_record
from sam2rt.export.proof.report import BOUNDS, problems
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession
from sam2rt.runtime.session import SessionWrapper


@pytest.fixture(scope="module")
def sequential(per_object_bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    with OnnxRuntimeSession(per_object_bundle, threads=1) as session:
        yield session


def step_inputs(
    session: OnnxRuntimeSession, objects: int, images: int = 1
) -> dict[str, np.ndarray]:
    sizes = {"I": images, "G": 1, "N": objects, "M": 3, "K": 2}
    stream = np.random.default_rng(objects)
    arrays = {}
    for tensor in session.bundle.graphs[TRACK_STEP].spec.inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
        arrays[tensor.name] = (
            stream.integers(0, 7, shape) if tensor.dtype == "int64"
            else stream.standard_normal(shape, np.float32)
        )  # fmt: skip
    return arrays


def of_object(inputs: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: a if len(a) == 1 else a[i : i + 1] for name, a in inputs.items()}


def test_a_bundle_carries_the_graphs_where_they_pay(
    per_object_bundle: Bundle, bundle: Bundle
) -> None:
    for name, spec in per_object_specs(per_object_bundle.model).items():
        assert per_object_bundle.graphs[name].spec == spec
        assert name not in bundle.graphs
    assert not OnnxRuntimeSession(bundle).per_object


@pytest.mark.parametrize("images", [1, 3])
def test_each_object_has_the_bits_it_has_alone(sequential: OnnxRuntimeSession, images: int) -> None:
    inputs = step_inputs(sequential, 3, images)
    together = sequential.run(TRACK_STEP, inputs)
    for i in range(3):
        alone = sequential.run(TRACK_STEP, of_object(inputs, i))
        for name, array in alone.items():
            np.testing.assert_array_equal(together[name][i : i + 1], array, err_msg=name)


def test_what_objects_share_is_done_once(sequential: OnnxRuntimeSession, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    calls = []
    run = sequential.run
    monkeypatch.setattr(
        sequential, "run", lambda graph, inputs: calls.append(graph) or run(graph, inputs)
    )
    sequential.run(TRACK_STEP, step_inputs(sequential, 3))
    assert calls == [TRACK_STEP, TRACK_FRAME, *[TRACK_OBJECT] * 3]


class FusedCalls(CallLog):
    """A log of the calls as users run them."""

    fused, per_object = SessionWrapper.fused, SessionWrapper.per_object


def test_a_stream_tracks_all_objects_in_one_call(
    sequential: OnnxRuntimeSession, session: OnnxRuntimeSession
) -> None:
    video, found = moving_square(8), []
    for used in (sequential, session):
        log = FusedCalls(used)
        tracker = StreamTracker(used.bundle, session=log)
        for obj_id in range(6):
            tracker.add_points(obj_id, **(BOX if obj_id % 2 else CLICK))
        found.append([tracker.step(frame).logits for frame in video])
        sizes = [len(out["iou"]) for graph, _, out in log.take() if graph == TRACK_STEP]
        assert sizes == ([6] if used is sequential else [4, 2]) * 7
    np.testing.assert_allclose(*found, atol=1e-3)


@pytest.mark.parametrize("graph", [TRACK_FRAME, TRACK_OBJECT])
def test_the_proof_covers_both_graphs(
    per_object_bundle: Bundle, tmp_path: Path, graph: str
) -> None:
    """A first output that is off by a hundredth fails."""
    model = onnx.load(per_object_bundle.graph_path(graph))
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
        node.input[:] = ["before" if name == output else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.01), "off"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["before", "off"], [output]))
    onnx.save_model(model, tmp_path / "wrong.onnx")
    entry = per_object_bundle.graphs[graph]
    file = BundleFile(str(tmp_path / "wrong.onnx"), "", 0)
    wrong = replace(
        per_object_bundle, graphs={**per_object_bundle.graphs, graph: replace(entry, file=file)}
    )
    record = load_record(
        per_object_bundle.path / per_object_bundle.proof_files["record"].path, wrong.model
    )
    for bundle, fails in ((per_object_bundle, False), (wrong, True)):
        with OnnxRuntimeSession(bundle, threads=1) as session:
            report = compare(record, session, BOUNDS["fp32"])
        assert bool(problems(report, BOUNDS["fp32"])) is fails
