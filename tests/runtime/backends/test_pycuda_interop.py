"""PyCUDA's side of the fence, with a stand-in for its GPUArray: PyCUDA needs a driver to import."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import MissingExtraError, SessionError
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.backends.pycuda_interop import gpuarray_of, session_on
from sam2rt.runtime.gpu import cuda

pytest.importorskip("cuda.bindings.runtime")

from fake_bundle import write_bundle
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRT, compute, write_engines


class _GPUArray:
    """The constructor and interface of ``pycuda.gpuarray.GPUArray``, as documented."""

    def __init__(self, shape: Any, dtype: Any, *, base: Any = None, gpudata: Any = None) -> None:
        self.shape, self.dtype, self.base, self.gpudata = shape, dtype, base, gpudata

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 2, "shape": self.shape, "typestr": np.dtype(self.dtype).str,
            "strides": None, "data": (int(self.gpudata), False),
        }  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    write_bundle(tmp_path / "b")
    made = Bundle.load(tmp_path / "b")
    write_engines(made)
    gpu = FakeCuda()
    module = FakeTensorRT(made, gpu)
    monkeypatch.setattr(cuda, "cudart", lambda: gpu)
    monkeypatch.setattr(trt, "tensorrt_module", lambda: module)
    return made


def test_arrays_go_in_and_come_out_on_the_callers_stream(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("pycuda.gpuarray")
    module.GPUArray = _GPUArray  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.gpuarray", module)
    spec = bundle.graphs["image_encoder"].spec
    image = np.random.default_rng(0).standard_normal((1, 3, 256, 256)).astype(np.float32)
    given = _GPUArray(image.shape, image.dtype, gpudata=image.ctypes.data)
    with session_on(bundle, SimpleNamespace(handle=4321)) as session:
        assert session._worker().stream.handle == 4321
        tensor = session.run("image_encoder", {"image": given})["image_embed"]
        array = gpuarray_of(tensor)
        assert (array.shape, array.gpudata) == (tensor.shape, tensor.pointer)
        assert array.base is tensor
        # and back in, by the interface that GPUArray gives
        again = {
            "image_embed": array,
            "mask_logits": np.zeros((1, 1, 64, 64), np.float32),
            "object_score": np.ones((1, 1), np.float32),
            "binarize": np.array([True]),
        }
        found = session.run("memory_encoder", again)
        embed = compute(spec, {"image": image})["image_embed"]
        memory = compute(bundle.graphs["memory_encoder"].spec, {**again, "image_embed": embed})
        np.testing.assert_array_equal(np.asarray(found["memory"]), memory["memory"])


def test_the_legacy_default_stream_is_refused(bundle: Bundle) -> None:
    session = session_on(bundle, SimpleNamespace(handle=0))
    with pytest.raises(SessionError, match="give a stream of its own"):
        session.slot_buffer()


def test_without_pycuda_the_extra_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.gpuarray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sam2rt\[pycuda\]'"):
        gpuarray_of(SimpleNamespace())  # type: ignore[arg-type]
