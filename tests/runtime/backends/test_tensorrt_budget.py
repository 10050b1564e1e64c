"""What the host asks of the GPU in one frame of live tracking, in the steady state: counted.

Counts of calls on the device double, not seconds. Values are compared with the host path.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.predictors.stream import StreamTracker

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from gpu_interpreter import foreign, kernels_beside
from trt_session import HostSession, bundle_with_engines, stand_in_gpu

#: frames until nothing is set up any more: pointers are complete after sixteen, then the ring's
#: graphs are captured in its second round
SETTLED = 36
FRAMES = np.random.default_rng(3).integers(0, 256, (SETTLED + 12, 36, 64, 3), dtype=np.uint8)
#: what costs the host time, by what the calls do
COUNTED = {
    "cudaStreamSynchronize": "synchronisations",
    "cudaMemcpyAsync": "copies",
    "launch": "kernels",
    "cudaGraphLaunch": "graphs",
    "cudaSetDevice": "selections",
    "cudaMalloc": "allocations",
    "cudaHostAlloc": "allocations",
    "cudaStreamBeginCapture": "captures",
}

#: the whole of what a frame may cost, frame in and masks out. It was, for one object: 30 copies, 7
#: selections, 7 kernels, 4 graphs and 6 synchronisations; then 1, 5, 1, 4 and 2
BUDGET = Counter(selections=1, graphs=1, synchronisations=1)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    fake = stand_in_gpu(monkeypatch, bundle)
    kernels_beside(monkeypatch, fake)
    return fake


def _tracked(
    bundle: Bundle, session: Any, gpu: FakeCuda | None = None, objects: int = 1
) -> tuple[list[Any], list[Counter[str]]]:
    """Masks and scores of every frame, and what each frame called."""
    found, counts = [], []
    with StreamTracker(bundle, session=session, fill_hole_area=8) as tracker:
        for obj_id in range(objects):
            tracker.add_points(obj_id=obj_id, points=[[10 + 9 * obj_id, 20]], labels=[1])
        for frame in FRAMES:
            if gpu is not None:
                gpu.calls.clear()
                gpu.moved = Counter()
            result = tracker.step(frame)
            found.append((result.masks, result.object_scores, result.ious))
            if gpu is not None:
                counts.append(Counter(COUNTED[c] for c in gpu.calls if c in COUNTED))
                counts[-1].update(gpu.moved)
    return found, counts


def _moved(n: int) -> Counter[str]:
    """Bytes that copies of a frame move; each array begins at a multiple of 256."""

    def packed(*sizes: int) -> int:
        return sum(-(-size // 256) * 256 for size in sizes)

    frame = FRAMES[0].nbytes
    # rows of 7 memories, 16 pointers of 64 float32 and their positions
    up = frame + packed(n * 7 * 8, n * 16 * 64 * 4, n * 16 * 4)
    # IoU, pointer, score, four IoUs; the mask has a byte a pixel
    down = packed(n * 4, n * 64 * 4, n * 4, n * 4 * 4) + packed(n * frame // 3)
    # one object's memory is written where it stays
    across = n * 16 * 16 * 16 * 4 if n > 1 else 0
    return Counter(up=up, down=down, across=across)


@pytest.mark.parametrize("objects", [1, 2])
def test_a_frame_in_the_steady_state_costs_the_host_few_calls(
    bundle: Bundle, gpu: FakeCuda, objects: int
) -> None:
    expected, _ = _tracked(bundle, HostSession(bundle), objects=objects)
    with trt.TensorRTSession(bundle) as session:
        found, counts = _tracked(bundle, session, gpu, objects)
    for (masks, *numbers), (wanted, *others) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(masks, wanted)
        np.testing.assert_array_equal(numbers, others)
    assert counts[SETTLED:] == [BUDGET + _moved(objects)] * len(counts[SETTLED:])


def test_without_graphs_the_chain_gives_the_same(bundle: Bundle, gpu: FakeCuda) -> None:
    """Engines that TensorRT cannot record run as usual; tried once each."""
    expected, _ = _tracked(bundle, HostSession(bundle))
    with trt.TensorRTSession(bundle) as session:
        for graph in session.graphs:
            session.engine(graph)[0].uncapturable = True
        found, counts = _tracked(bundle, session, gpu)
    assert gpu.capturing == {}
    # kernels alone: of the frame, of holes and of the mask
    assert counts[-1]["graphs"] == 3
    assert counts[-1]["synchronisations"] == 1
    # the encoder's, the chain's and all together, beside one of frames, two of holes and masks
    assert sum(count["captures"] for count in counts) == 8
    for (masks, *numbers), (wanted, *others) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(masks, wanted)
        np.testing.assert_array_equal(numbers, others)


def test_frames_of_the_caller_are_read_before_the_call_is_over(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    """Whose memory it is may fill it anew; a host array was copied to pinned memory."""

    class Foreign:
        __cuda_array_interface__ = {  # noqa: RUF012
            "version": 3, "shape": FRAMES[0].shape, "typestr": "|u1", "strides": None,
            "data": (FRAMES[0].ctypes.data, False), "stream": 4242,
        }  # fmt: skip

    foreign[FRAMES[0].ctypes.data] = FRAMES[0].nbytes
    with trt.TensorRTSession(bundle) as session:
        pixels = session.pixels()
        assert pixels is not None
        expected = np.asarray(pixels.frame_tensor(FRAMES[0], 32))
        for make in (
            lambda: pixels.frame_tensor(Foreign(), 32),
            lambda: pixels.image_tensors([Foreign()], 32),
        ):
            made = make()
            calls = [c for c in gpu.calls if c in COUNTED]
            assert calls[-2:] == ["launch", "cudaStreamSynchronize"]
        np.testing.assert_array_equal(np.asarray(pixels.frame_tensor(Foreign(), 32)), expected)
        gpu.calls.clear()
        pixels.frame_tensor(FRAMES[0], 32)
        assert "cudaStreamSynchronize" not in gpu.calls
        assert made.shape == (1, 3, 32, 32)


def test_constants_go_to_the_device_once(bundle: Bundle, gpu: FakeCuda) -> None:
    """What frames without prompts give the decoder is neither uploaded nor changed by prompts."""
    frames = FRAMES[:6]

    def track(session: Any) -> list[Any]:
        with StreamTracker(bundle, session=session, fill_hole_area=8) as tracker:
            results = []
            for index, frame in enumerate(frames):
                # prompts between tracked frames use the decoder's own places
                if index in (0, 3):
                    tracker.add_points(obj_id=index, points=[[9 + index, 20]], labels=[1])
                results.append(tracker.step(frame).masks)
            return results

    expected = track(HostSession(bundle))
    with trt.TensorRTSession(bundle) as session:
        found = track(session)
        chain = session._worker()._chain
        assert chain is not None
        # objects of unequal age are tracked apart
        assert sorted(chain._constants) == [1]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
