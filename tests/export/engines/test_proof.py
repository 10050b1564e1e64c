"""The proof on a TensorRT session: engines of some graphs, outputs that stay on the GPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.benchmarks.gpu import systems as gpu_systems
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.graphs import engine_specs
from sam2rt.export.proof.compare import compare
from sam2rt.export.proof.record import record
from sam2rt.export.proof.report import BOUNDS, problems
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.pixels.gpu_kernels import write_kernels

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from fake_tensorrt import MACHINE
from gpu_interpreter import numpy_kernels
from triton_kernels import triton_on_path
from trt_session import HostSession, bundle_with_engines, stand_in_gpu


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    return stand_in_gpu(monkeypatch, bundle)


@pytest.mark.parametrize("kernels", [False, True])
def test_engines_that_compute_the_same_pass(
    bundle: Bundle, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kernels: bool
) -> None:
    if kernels:
        triton_on_path()
        write_kernels(tmp_path, 90)
        shutil.copytree(tmp_path / "kernels", bundle.path / "engines" / MACHINE.folder / "kernels")
        numpy_kernels(monkeypatch, gpu)
    expected = record(HostSession(bundle), 3, frames=3)
    reported: list[Any] = []
    with trt.TensorRTSession(bundle) as session:
        found = compare(
            expected, session, BOUNDS["fp32"], progress=lambda *given: reported.append(given)
        )
        attended = {run["memory"] for run in session.engine("memory_attention")[0].runs}
    assert problems(found, BOUNDS["fp32"]) == []
    assert {name.split(".")[0] for name in found.outputs} == set(engine_specs(bundle.model))
    assert max(difference.max for difference in found.outputs.values()) == 0
    assert (found.loop_max, found.compared, found.results) == (0, found.results, found.results)
    # the cases' inputs have one place; the others are rings, as when tracking
    assert len(attended) > 1
    # progress ends where it said it would
    assert [done for _, done, _ in reported] == list(range(1, reported[0][2] + 1))


def test_an_engine_that_computes_something_else_fails(bundle: Bundle, gpu: FakeCuda) -> None:
    expected = record(HostSession(bundle), 3, frames=3)
    with trt.TensorRTSession(bundle) as session:
        run = session.run

        def off(graph: str, *given: Any, **named: Any) -> Any:
            out = run(graph, *given, **named)
            return {n: np.asarray(v) + 1 for n, v in out.items()} if graph == "mask_prompt" else out

        session.run = off  # type: ignore[method-assign]
        found = problems(compare(expected, session, BOUNDS["fp32"]), BOUNDS["fp32"])
    # the loop prompts with a mask too, so that others follow
    assert any(text.startswith("mask_prompt.mask_logits differs by 1 ") for text in found)


def test_replays_are_compared_where_outputs_lie(
    bundle: Bundle, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_systems, "open_session", lambda bundle, *_: trt.TensorRTSession(bundle))
    assert set(gpu_systems.replay_differences(bundle).values()) == {0.0}
    assert gpu.replays > 0
