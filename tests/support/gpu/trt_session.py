"""A bundle with engines on a GPU of host memory, inputs for its graphs, and a host session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_bundle import write_bundle
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRT, compute, write_engines

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.graphs import GraphSpec
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.session import Into, Session, check_inputs


def bundle_with_engines(folder: Path) -> Bundle:
    write_bundle(folder / "bundle")
    made = Bundle.load(folder / "bundle")
    write_engines(made)
    return made


def stand_in_gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    """Put the stand-ins in the place of ``cuda.bindings`` and ``tensorrt``."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda, "cudart", lambda: fake)
    fake_trt = FakeTensorRT(bundle, fake)
    monkeypatch.setattr(trt, "tensorrt_module", lambda: fake_trt)
    return fake


def graph_inputs(spec: GraphSpec, seed: int = 0, **changed: int) -> dict[str, np.ndarray]:
    """Random inputs, in the sizes of the steady state of one object unless changed."""
    sizes = {"B": 1, "I": 1, "G": 1, "N": 1, "M": 7, "K": 16, "P": 2, **changed}
    stream = np.random.default_rng(seed)
    inputs = {}
    for t in spec.inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        values = stream.integers(0, 2, shape) if t.dtype in ("int32", "int64", "bool") else (
            stream.standard_normal(shape)
        )  # fmt: skip
        inputs[t.name] = values.astype(t.dtype)
    return inputs


def assert_same(found: Mapping[str, Any], expected: Mapping[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


class HostSession(Session):
    """The same arithmetic with host arrays throughout, as the CPU backend has it."""

    #: tests give it an engine's limits
    max_objects = max_images = None

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def run(
        self, graph: str, inputs: Mapping[str, np.ndarray], into: Into | None = None
    ) -> dict[str, np.ndarray]:
        spec = self.bundle.graphs[graph].spec
        return compute(spec, check_inputs(spec, inputs))
