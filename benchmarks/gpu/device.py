"""The device layer on a GPU: kernels as they lie beside engines, arrays of other libraries, graphs.

Needs cuda-bindings and triton, neither TensorRT nor a model. Results are numbers of elements that
differ from numpy; 0 is required.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ...plugins import components as component_op
from ...plugins import pixels as pixel_op
from ...runtime.arrays import Array
from ...runtime.gpu import cuda
from ...runtime.gpu.tensor import DeviceTensor, Pool
from ...runtime.pixels.antialias import antialias_taps
from ...runtime.pixels.frame_tensor import MEAN, STD, image_tensor
from ...runtime.pixels.gpu_kernels import GpuPixels, write_kernels
from ...runtime.pixels.upsample import upsample_mask
from .stage import Stage


def device_layer(stage: Stage) -> dict[str, Any]:
    """What each piece gives on this GPU; SessionError without a driver."""
    found = cuda.device()
    with tempfile.TemporaryDirectory() as folder, cuda.Stream() as stream:
        write_kernels(Path(folder), found.arch)
        pool = Pool()
        gpu = GpuPixels(Path(folder), stream, pool)
        differing = {
            **kernel_differences(gpu),
            "graph_replay": graph_differences(stream, pool),
            **torch_differences(gpu),
        }
        gpu.close()
        pool.close()
    stage.synchronize()
    return {"gpu": found.name, "passed": not any(differing.values()), "differing": differing}


def kernel_differences(gpu: GpuPixels) -> dict[str, int]:
    """Frames, images, masks, holes and specks against numpy."""
    stream = np.random.default_rng(0)
    frame = stream.integers(0, 256, (270, 480, 3), dtype=np.uint8)
    logits = stream.standard_normal((3, 128, 128)).astype(np.float32)
    values = (np.arange(256) / 255.0).astype(np.float32)
    table = (values - MEAN[:, None]) / STD[:, None]
    cleaned = np.stack([_clean(plane, 0.25, 8, 5) for plane in logits])
    return {
        "video_frame": _differing(
            gpu.frame_tensor(frame, 512)[0], pixel_op.resize_normalise(frame, 512, table)
        ),
        "image": _differing(gpu.image_tensors([frame], 512)[0], image_tensor(frame, 512)),
        "image_reference": _differing(gpu.image_tensors([frame], 64)[0], _image(frame, 64)),
        "masks": _differing(
            gpu.masks(logits, (720, 1280), 0.25), upsample_mask(logits, (720, 1280), 0.25)
        ),
        "holes": _differing(
            gpu.fill_holes(logits, 8),
            np.stack([component_op.fill_small(plane, 8, 0.0, 0.1) for plane in logits]),
        ),
        "holes_and_specks": _differing(gpu.clean(logits, 0.25, 8, 5), cleaned),
    }


def graph_differences(stream: cuda.Stream, pool: Pool) -> int:
    """A captured graph of copies, replayed over new content."""
    first, middle, last = (
        DeviceTensor.pooled(pool, (1 << 16,), np.float32, stream) for _ in range(3)
    )

    def work() -> None:
        cuda.copy(middle.pointer, first.pointer, first.nbytes, stream)
        cuda.copy(last.pointer, middle.pointer, middle.nbytes, stream)

    differing = 0
    work()
    with cuda.Graph(stream, work) as graph:
        for seed in range(3):
            content = np.random.default_rng(seed).standard_normal(1 << 16).astype(np.float32)
            cuda.copy(first.pointer, content.ctypes.data, content.nbytes, stream)
            graph.replay(stream)
            differing += _differing(last, content)
            last.forget_host()
    return differing


def torch_differences(gpu: GpuPixels) -> dict[str, int]:
    """Frames that torch holds, and sam2rt's tensors seen by torch; nothing where it sees no GPU."""
    if importlib.util.find_spec("torch") is None:
        return {}
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return {}
    frame = np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    held = torch.from_numpy(frame).cuda()
    torch.cuda.synchronize()
    tensor = gpu.image_tensors([held], 64)
    wanted = image_tensor(frame, 64)[None]
    interface, capsule = torch.as_tensor(tensor, device="cuda"), torch.from_dlpack(tensor)
    return {
        "frame_of_torch": _differing(tensor, wanted),
        "interface_to_torch": _differing(interface.cpu().numpy(), wanted),
        "dlpack_to_torch": _differing(capsule.cpu().numpy(), wanted),
    }


def _clean(plane: Array, threshold: float, holes: int, specks: int) -> Array:
    level = np.float32(threshold)
    cleaned: Array = component_op.fill_small(plane, holes, threshold, threshold + 10.0)
    small = component_op.small_components(plane > level, specks)
    return np.where(small, np.float32(threshold - 10.0), cleaned)


def _image(image: Array, size: int) -> Array:
    (columns, across), (rows, down) = (antialias_taps(n, size) for n in image.shape[1::-1])
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    taps = (columns[0], across), (rows[0], down)
    return pixel_op.antialias_normalise(image, *taps, unit, MEAN, STD)


def _differing(found: Any, expected: Array) -> int:
    return int(np.count_nonzero(np.asarray(found) != expected))
