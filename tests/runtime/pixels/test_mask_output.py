"""Predictors whose masks are made on the GPU: the bits of the host path, and little downloaded.

The GPU is host memory, the kernels beside the engines are their numpy references, or (once, for
it is slow) run in Triton's interpreter.
"""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.gpu.tensor import DeviceTensor
from sam2rt.runtime.pixels.gpu_kernels import GpuPixels, write_kernels
from sam2rt.runtime.pixels.mask_output import FrameLogits
from sam2rt.runtime.predictors.image import ImagePredictor
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.predictors.video import VideoPredictor

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from fake_tensorrt import MACHINE
from gpu_interpreter import interpreted_kernels, numpy_kernels
from triton_kernels import triton_on_path
from trt_session import HostSession, bundle_with_engines, stand_in_gpu

from sam2rt.runtime.pixels import upsample

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    triton_on_path()
    folder = tmp_path_factory.mktemp("kernels")
    write_kernels(folder, 90)
    return folder / "kernels"


@pytest.fixture
def bundle(tmp_path: Path, kernels: Path) -> Bundle:
    made = bundle_with_engines(tmp_path)
    shutil.copytree(kernels, made.path / "engines" / MACHINE.folder / "kernels")
    return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    fake = stand_in_gpu(monkeypatch, bundle)
    numpy_kernels(monkeypatch, fake)
    return fake


def _stream(bundle: Bundle, session: Any, **options: Any) -> list[Any]:
    with StreamTracker(bundle, session=session, **options) as tracker:
        tracker.add_points(obj_id=1, points=[[5, 5]], labels=[1])
        tracker.add_points(obj_id=2, points=[[9, 4]], labels=[1])
        return [tracker.step(frame) for frame in FRAMES]


def test_live_masks_are_the_host_paths_and_alone_are_downloaded(
    bundle: Bundle, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _stream(bundle, HostSession(bundle), fill_hole_area=8)
    downloads: list[tuple[tuple[int, ...], str]] = []
    download = DeviceTensor.download

    def counted(self: DeviceTensor, out: Any = None) -> Any:
        downloads.append((self.shape, self.dtype.name))
        return download(self, out)

    monkeypatch.setattr(DeviceTensor, "download", counted)
    with trt.TensorRTSession(bundle) as session:
        found = _stream(bundle, session, fill_hole_area=8)
        assert downloads == []
        for a, b in zip(found, expected, strict=True):
            assert isinstance(a.logits, FrameLogits)
            np.testing.assert_array_equal(a.masks, b.masks)
            assert a.masks.any()
            assert not a.masks.all()
        assert set(downloads) == {((2, 12, 20), "bool")}
        on_gpu = found[0].logits.above(0.25)
        assert isinstance(on_gpu, DeviceTensor)
        np.testing.assert_array_equal(np.asarray(on_gpu), expected[0].logits > 0.25)
        # floats come when they are asked for
        np.testing.assert_array_equal(np.asarray(found[1].logits), expected[1].logits)
    # and so they do after the session
    np.testing.assert_array_equal(found[2].masks, expected[2].masks)
    np.testing.assert_array_equal(np.asarray(found[2].logits), expected[2].logits)


@pytest.mark.slow
def test_live_masks_by_the_kernels_themselves(
    bundle: Bundle, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _stream(bundle, HostSession(bundle), fill_hole_area=8)
    interpreted_kernels(monkeypatch, gpu)
    with trt.TensorRTSession(bundle) as session:
        found = _stream(bundle, session, fill_hole_area=8)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a.masks, b.masks)
            np.testing.assert_array_equal(np.asarray(a.logits), b.logits)


def test_masks_on_the_gpu_are_ready_when_handed_out(
    bundle: Bundle, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes them works on another stream, which does not wait for ours."""
    masks = GpuPixels.masks

    def enqueued(*given: Any) -> DeviceTensor:
        made = masks(*given)
        gpu.calls.clear()
        return made

    monkeypatch.setattr(GpuPixels, "masks", enqueued)
    with trt.TensorRTSession(bundle) as session:
        logits = _stream(bundle, session)[-1].logits
        assert isinstance(logits, FrameLogits)
        made = logits.above()
        assert gpu.calls == ["cudaStreamSynchronize"]
        made.__dlpack__()
        assert gpu.calls == ["cudaStreamSynchronize"] * 2


def test_prompts_and_images_beyond_an_engines_limits_are_split(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    boxes = np.array([[1, 1, 9, 9], [2, 3, 8, 9], [0, 0, 5, 5], [4, 4, 19, 11], [3, 2, 6, 7]])
    # the stand-in's numbers depend on all inputs of a call
    host_session: Any = HostSession(bundle)
    host_session.max_objects = host_session.max_images = 2
    with trt.TensorRTSession(bundle) as session:
        assert (session.max_objects, session.max_images) == (2, 2)
        found, host = (ImagePredictor(bundle, session=s) for s in (session, host_session))
        for predictor in (found, host):
            predictor.set_image_batch(list(FRAMES))
        np.testing.assert_array_equal(found.get_image_embedding(), host.get_image_embedding())
        for predictor in (found, host):
            predictor.set_image(FRAMES[0])
        for value, wanted in zip(found.predict(box=boxes), host.predict(box=boxes), strict=True):
            assert len(value) == 5
            np.testing.assert_array_equal(value, wanted)


def test_masks_without_overlap_are_the_host_paths(bundle: Bundle, gpu: FakeCuda) -> None:
    expected = _stream(bundle, HostSession(bundle), non_overlap_masks=True)
    with trt.TensorRTSession(bundle) as session:
        found = _stream(bundle, session, non_overlap_masks=True)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.logits, b.logits)


def _video(bundle: Bundle, session: Any) -> list[tuple[int, list[int], Any]]:
    results = []
    with VideoPredictor(bundle, session=session) as predictor:
        state = predictor.init_state(FRAMES)
        results.append(predictor.add_new_points_or_box(state, 0, 1, [[5, 5]], [1]))
        mask = np.zeros((12, 20), np.bool_)
        mask[3:8, 4:12] = True
        results.append(predictor.add_new_mask(state, 1, 2, mask))
        results += predictor.propagate_in_video(state)
        # a correction feeds the earlier mask back
        results.append(predictor.add_new_points_or_box(state, 2, 1, [[7, 7]], [0]))
    return results


def test_videos_give_the_host_paths_logits(bundle: Bundle, gpu: FakeCuda) -> None:
    expected = _video(bundle, HostSession(bundle))
    with trt.TensorRTSession(bundle) as session:
        found = _video(bundle, session)
        for (frame, ids, logits), (_, _, wanted) in zip(found, expected, strict=True):
            assert (frame, ids) in [(f, i) for f, i, _ in expected]
            assert logits.shape == wanted.shape
            np.testing.assert_array_equal(logits > 0, wanted > 0)
            np.testing.assert_array_equal(np.asarray(logits), wanted)


@pytest.mark.parametrize(
    "options", [{}, {"mask_threshold": 0.5, "max_hole_area": 6, "max_sprinkle_area": 3}]
)
def test_images_give_the_host_paths_masks(
    bundle: Bundle, gpu: FakeCuda, options: dict[str, float]
) -> None:
    def predict(session: Any) -> list[Any]:
        with ImagePredictor(bundle, session=session, **options) as predictor:
            predictor.set_image(FRAMES[0])
            one = predictor.predict([[5, 5]], [1])
            several = predictor.predict(box=[[1, 1, 9, 9], [3, 2, 12, 8]], multimask_output=False)
            predictor.set_image_batch([FRAMES[1], FRAMES[2][:7]])
            batch = predictor.predict_batch([[[5, 5]], [[3, 3]]], [[1], [1]], return_logits=True)
            return [*one, *several, *(part[1] for part in batch)]

    expected = predict(HostSession(bundle))
    with trt.TensorRTSession(bundle) as session:
        found = predict(session)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


class TestFrameLogits:
    """What a program may do with logits that are not there yet."""

    @pytest.fixture
    def low(self) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((2, 1, 6, 7)).astype(np.float32)

    @pytest.fixture
    def logits(self, bundle: Bundle, gpu: FakeCuda, low: np.ndarray) -> FrameLogits:
        # not entered, so not closed: its kernels are used by the tests
        kernels = trt.TensorRTSession(bundle).pixels()
        assert isinstance(kernels, GpuPixels)
        return FrameLogits(kernels, kernels.uploaded(low), (9, 11))

    def test_it_is_an_array_where_one_is_needed(self, logits: Any, low: np.ndarray) -> None:
        full = upsample.upsample_bilinear(low, (9, 11))
        assert (logits.shape, logits.ndim, len(logits)) == ((2, 1, 9, 11), 4, 2)
        assert logits.dtype == np.float32
        for found, expected in [
            (logits[1], full[1]), (logits[-1, 0], full[-1, 0]), (logits[:, 0], full[:, 0]),
            (logits[0, 0, 2:5], full[0, 0, 2:5]), (logits + 1, full + 1), (-logits, -full),
            (logits.max(), full.max()), (logits.astype(np.float64), full.astype(np.float64)),
            (np.concatenate([logits, logits]), np.concatenate([full, full])),
            (np.stack(list(logits)), full), (pickle.loads(pickle.dumps(logits)), full),
        ]:  # fmt: skip
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("level", [0, 0.1, np.float32(0.1), np.float64(0.1), -0.25])
    def test_comparisons_have_numpys_types(
        self, logits: Any, low: np.ndarray, level: float
    ) -> None:
        full = upsample.upsample_bilinear(low, (9, 11))
        np.testing.assert_array_equal(logits > level, full > level)
        np.testing.assert_array_equal(logits[1, 0] > level, full[1, 0] > level)
        np.testing.assert_array_equal(level < logits, full > level)
        np.testing.assert_array_equal(logits >= level, full >= level)

    def test_another_thread_uses_the_host_path(
        self, logits: Any, low: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(GpuPixels, "masks", lambda *_: pytest.fail("a kernel was launched"))
        found: list[np.ndarray] = []
        thread = threading.Thread(target=lambda: found.append(logits > 0))
        thread.start()
        thread.join()
        expected = upsample.upsample_mask(low, (9, 11), 0.0)
        np.testing.assert_array_equal(found[0], expected)
