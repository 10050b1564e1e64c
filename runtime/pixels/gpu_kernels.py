"""Pixels on the GPU: frames to the model's input, logits to masks, small holes filled.

The kernels are compiled when engines are built and lie beside them, so nothing here needs
Triton. Each equals the CPU path of :mod:`.pixels` and :mod:`.components` bit for bit, but video's
portrait frames on Pillow 13 and later, which resizes those in another order than the original.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import BundleError, FrameError, InputError
from ...configs.remedies import line_of, machine_failed, remedy_of
from ...plugins import components, pixels
from ...plugins.compiling import compile_kernel
from ...plugins.kernel import Kernel
from ..arrays import Array
from ..gpu import cuda
from ..gpu.graphs import GraphCache, Places
from ..gpu.tensor import DeviceTensor, Pool, on_device
from ..pixel_kernels import PixelKernels
from .antialias import antialias_taps
from .foreseen import ForeseenMasks, Foresight
from .frame_tensor import MEAN, STD

_FOLDER, _INDEX = "kernels", "kernels.json"
_BLOCK = 256
#: combinations of addresses that are recorded: a stream has a few
_MOST_PLACES = 32
_BUILD = "build the engines again: sam2rt build"


def beside_kernels() -> dict[str, Kernel]:
    """The kernels that run beside the engines, by name."""
    return {
        name: kernel
        for module in (pixels, components)
        for name, (_, kernel) in module.KERNELS.items()
    }


def write_kernels(folder: Path, arch: int) -> None:
    """Compile every kernel for sm_`arch` into the engine folder; needs Triton."""
    target = folder / _FOLDER
    target.mkdir(exist_ok=True)
    index: dict[str, Any] = {}
    for name, kernel in beside_kernels().items():
        code = compile_kernel(kernel, arch)
        (target / f"{name}.cubin").write_bytes(code.cubin)
        index[name] = {
            "entry": code.name,
            "block": code.block,
            "shared": code.shared,
            "sha256": hashlib.sha256(code.cubin).hexdigest(),
            "source": kernel.digest(),
        }
    (target / _INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def has_kernels(folder: Path) -> bool:
    """Whether kernels were compiled into an engine folder; what they are is checked later."""
    return (folder / _FOLDER).is_dir()


def read_kernels(folder: Path) -> dict[str, tuple[bytes, Mapping[str, Any]]]:
    """Machine code and launch data of each kernel; BundleError for what is missing or changed."""
    index_path = folder / _FOLDER / _INDEX
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = line_of(error) if machine_failed(error) else type(error).__name__
        remedy = remedy_of(error, _BUILD)
        raise BundleError(f"cannot read {index_path} ({what}): {remedy}") from None
    found: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
    for name, kernel in beside_kernels().items():
        path = folder / _FOLDER / f"{name}.cubin"
        entry = index.get(name) if isinstance(index, dict) else None
        if entry is None or not path.is_file():
            raise BundleError(f"expected the kernel {path}, found none: {_BUILD}")
        code = path.read_bytes()
        if hashlib.sha256(code).hexdigest() != entry.get("sha256"):
            raise BundleError(f"kernel {path} was changed or truncated: {_BUILD}")
        if entry.get("source") != kernel.digest():
            raise BundleError(f"kernel {path} is of another version of sam2rt: {_BUILD}")
        found[name] = (code, entry)
    return found


class GpuPixels(PixelKernels):
    """Launches the kernels of an engine folder on one stream.

    Frames are host or GPU arrays, results tensors that stay on the GPU. Content is ready for
    work on the same stream; numpy waits by itself.
    """

    def __init__(self, folder: Path, stream: cuda.Stream, pool: Pool) -> None:
        self._stream, self._pool = stream, pool
        self._tables: dict[tuple[Any, ...], list[DeviceTensor]] = {}
        self._kept: dict[str, tuple[Any, list[DeviceTensor]]] = {}
        self._stagings: dict[tuple[Any, ...], list[cuda.Staging]] = {}
        self._graphs, self._places = GraphCache(stream), Places(_MOST_PLACES)
        self._foresight = Foresight(stream, pool)
        self._kernels = {
            name: cuda.LoadedKernel(code, entry["entry"], entry["block"], entry["shared"])
            for name, (code, entry) in read_kernels(folder).items()
        }
        values = (np.arange(256) / 255.0).astype(np.float32)
        self._normalise = self._uploaded((values - MEAN[:, None]) / STD[:, None])
        # a float32 division for images, a float64 one for video frames, as in the original
        unit = np.arange(256, dtype=np.float32) / np.float32(255)
        self._image = [self._uploaded(table) for table in (unit, MEAN, STD)]
        self.closed = False

    def close(self) -> None:
        """Unload the kernels; tensors they made stay."""
        self.closed = True
        self._graphs.close()
        self._kept.clear()
        self._drop_stagings()
        self._foresight.close()
        for kernel in self._kernels.values():
            kernel.close()

    def frame_tensor(self, frame: Any, size: int) -> DeviceTensor:
        """A video frame, uint8 RGB [H,W,3] on host or GPU, as the model's input [1,3,S,S]."""
        on_gpu, copied = self._staged(frame) if isinstance(frame, np.ndarray) else (None, None)
        on_gpu = self._rgb(frame if on_gpu is None else on_gpu)
        (narrow,) = self._scratch("narrow", [((on_gpu.shape[0], size, 3), np.uint8)])
        parts = [((1, 3, size, size), np.float32)]
        (out,) = self._pool.block(parts, self._stream, use="frame_tensor")

        def enqueue() -> None:
            if copied is not None:
                cuda.copy(on_gpu.pointer, copied, on_gpu.nbytes, self._stream)
            self._resize(on_gpu, size, narrow, out)

        # frames that come on the device lie anywhere
        key = ("frame", on_gpu.pointer, on_gpu.shape, copied, out.pointer, size)
        self._graphs.run(key, enqueue, copied is not None and self._places.take(key))
        self._let_go(on_gpu)
        return out

    def _resize(
        self, frame: DeviceTensor, size: int, narrow: DeviceTensor, out: DeviceTensor
    ) -> None:
        height, width, _ = frame.shape
        columns, rows = self._taps(frame.shape, size)
        taps = (columns[1].shape[1], rows[1].shape[1])
        across, down = (_tiles(size * 3), height), (_tiles(size * 3), size)
        self._launch("resize_rows", across, frame, *columns, size, width, taps[0], narrow)
        given = (narrow, *rows, self._normalise, size, height, taps[1], out)
        self._launch("resize_columns_normalise", down, *given)

    def _taps(self, shape: tuple[int, ...], size: int) -> tuple[list[DeviceTensor], ...]:
        height, width, _ = shape
        columns = self._cached(("taps", width, size), lambda: pixels.bicubic_taps(width, size))
        rows = self._cached(("taps", height, size), lambda: pixels.bicubic_taps(height, size))
        return columns, rows

    def image_tensors(self, images: Sequence[Any], size: int) -> DeviceTensor:
        """Images, uint8 RGB [H,W,3] on host or GPU, as the image model's input [B,3,S,S]."""
        out = self._empty((len(images), 3, size, size), np.float32)
        unit, mean, std = self._image
        for index, image in enumerate(images):
            on_gpu = self._rgb(image)
            height, width, _ = on_gpu.shape
            columns, rows = self._triangle(width, size), self._triangle(height, size)
            wide = self._empty((height, size, 3), np.float32)
            taps = (columns[1].shape[0], rows[1].shape[0])
            across, down = (_tiles(size * 3), height), (_tiles(size * 3), size)
            horizontal = (on_gpu, unit, *columns, size, width, taps[0], wide)
            self._launch("antialias_rows", across, *horizontal)
            vertical = (wide, *rows, mean, std, size, height, taps[1], out[index])
            self._launch("antialias_columns_normalise", down, *vertical)
            self._let_go(on_gpu)
        return out

    def _let_go(self, frame: DeviceTensor) -> None:
        """Wait until a frame of the caller's is read, who may fill it anew."""
        if not frame.lent_to(self._stream):
            return
        if self._stream.collector is None:
            self._stream.synchronize()
        else:
            # the end of the frame waits for it
            self._stream.collector.hold(frame)

    def _triangle(self, n_in: int, n_out: int) -> list[DeviceTensor]:
        def tables() -> tuple[Array, Array]:
            indices, weights = antialias_taps(n_in, n_out)
            return indices[0].astype(np.int32), weights

        return self._cached(("triangle", n_in, n_out), tables)

    def _rgb(self, frame: Any) -> DeviceTensor:
        on_gpu = self._tensor(frame)
        if on_gpu.ndim != 3 or on_gpu.shape[2] != 3 or on_gpu.dtype != np.uint8:
            raise FrameError(
                f"a frame must be uint8 [H, W, 3], got {on_gpu.dtype} {list(on_gpu.shape)}"
            )
        return on_gpu

    def masks(self, logits: Any, size: tuple[int, int], threshold: float = 0.0) -> DeviceTensor:
        """Logits [...,h,w] float32 at frame size, above the threshold: bool [...,*size]."""
        source = self._logits(logits)
        out = self._empty((len(source), *size), np.bool_)
        self._upsample(source, size, threshold, out)
        return out.reshape(*np.shape(logits)[:-2], *size)

    def foreseen_masks(self, logits: Any, size: tuple[int, int]) -> ForeseenMasks | None:
        """See :meth:`PixelKernels.foreseen_masks`."""
        n = len(logits)
        threshold = self._foresight.expected(n, size)
        if threshold is None:
            return None
        source = self._logits(logits)
        packed = self._foresight.place(n, size)
        turn, out = packed.turn(), packed.tensors["masks"]
        pinned = packed.address(turn)

        def enqueue() -> None:
            self._upsample(source, size, threshold, out)
            cuda.copy(pinned, out.pointer, out.nbytes, self._stream)

        key = ("masks", source.pointer, source.shape, out.pointer, pinned, size, threshold)
        self._graphs.run(key, enqueue, self._places.take(key))
        return ForeseenMasks(packed.arrival(turn), threshold)

    def masks_taken(self, size: tuple[int, int], threshold: float) -> None:
        """See :meth:`PixelKernels.masks_taken`."""
        self._foresight.note(size, threshold)

    def _upsample(
        self, source: DeviceTensor, size: tuple[int, int], threshold: float, out: DeviceTensor
    ) -> None:
        """Launch what makes masks of logits [N,h,w]."""
        n, h, w = source.shape
        y = self._cached(("lerp", h, size[0]), lambda: pixels.lerp_table(h, size[0]))
        x = self._cached(("lerp", w, size[1]), lambda: pixels.lerp_table(w, size[1]))
        given = (source, *y, *x, float(threshold), h, w, *size, out)
        self._launch("upsample_mask", (_tiles(size[1]), size[0], n), *given)

    def fill_holes(
        self, logits: Any, area: int, threshold: float = 0.0, value: float = 0.1
    ) -> DeviceTensor:
        """Logits [...,h,w] with the background's components of at most `area` pixels filled."""
        source = self._logits(logits)
        return self._cleaned(source, source, area, threshold, 0, value).reshape(*np.shape(logits))

    def clean(
        self, logits: Any, threshold: float, hole_area: float, sprinkle_area: float
    ) -> DeviceTensor:
        """The image predictor's rule, see :func:`~sam2rt.runtime.pixels.components.clean_mask`."""
        source = cleaned = self._logits(logits)
        if hole_area > 0:
            value = threshold + 10.0
            cleaned = self._cleaned(source, cleaned, hole_area, threshold, 0, value)
        if sprinkle_area > 0:
            value = threshold - 10.0
            cleaned = self._cleaned(source, cleaned, sprinkle_area, threshold, 1, value)
        return cleaned.reshape(*np.shape(logits))

    def _cleaned(
        self,
        source: DeviceTensor,
        base: DeviceTensor,
        area: float,
        threshold: float,
        above: int,
        value: float,
    ) -> DeviceTensor:
        """`base` with `value` in the small components of `source`, background or mask."""
        n, h, w = source.shape
        # kernels take 32 bits, and no component is larger than its plane
        most = int(min(area, h * w))
        label, count = self._scratch("components", [(source.shape, np.int32)] * 2)
        (out,) = self._pool.block([(source.shape, np.float32)], self._stream, use="cleaned")

        def enqueue() -> None:
            launches = (
                ("label_pixels", (source, float(threshold), above, h, w, label, count)),
                ("join_neighbours", (h, w, label)),
                ("count_areas", (h, w, label, count)),
                ("fill_small", (base, label, count, most, float(value), h, w, out)),
            )
            for name, given in launches:
                self._launch(name, (_tiles(h * w), 1, n), *given)

        places = (source.pointer, base.pointer, label.pointer, out.pointer)
        key = ("clean", *places, source.shape, most, threshold, above, value)
        self._graphs.run(key, enqueue, self._places.take(key))
        return out

    def joined(self, tensors: Sequence[DeviceTensor]) -> DeviceTensor:
        """Tensors of one shape as one, along a new first axis; those that lie so are not copied."""
        first = tensors[0]
        if first.followed_by(tensors[1:]):
            return DeviceTensor(
                first.pointer, (len(tensors), *first.shape), first.dtype, first.owner, self._stream
            )
        out = self._empty((len(tensors), *first.shape), first.dtype)
        for i, tensor in enumerate(tensors):
            cuda.copy(out.pointer + i * tensor.nbytes, tensor.pointer, tensor.nbytes, self._stream)
        return out

    def uploaded(self, array: Array) -> DeviceTensor:
        """A host array on the device."""
        return self._uploaded(array)

    def _logits(self, logits: Any) -> DeviceTensor:
        """Logits as planes [N,h,w]."""
        if isinstance(logits, DeviceTensor) and logits.made_on(self._stream) and logits.ndim == 3:
            return logits
        source = self._tensor(logits)
        if source.ndim < 3 or source.dtype != np.float32:
            raise InputError(
                f"expected float32 logits [..., h, w], got {source.dtype} {list(source.shape)}"
            )
        return source.reshape(math.prod(source.shape[:-2]), *source.shape[-2:])

    def _tensor(self, array: Any) -> DeviceTensor:
        given = on_device(array, self._stream)
        return given if isinstance(given, DeviceTensor) else self._uploaded(np.asarray(given))

    def _uploaded(self, array: Array) -> DeviceTensor:
        made = self._empty(array.shape, array.dtype)
        host = np.ascontiguousarray(array)
        cuda.copy(made.pointer, host.ctypes.data, host.nbytes, self._stream)
        # the host array may go away before the copy has run
        self._stream.synchronize()
        return made

    def _staged(self, frame: Array) -> tuple[DeviceTensor, int]:
        """A place for a frame on the device, and the pinned memory it is to be copied from.

        Nobody waits for that copy. Frames of a video are of one size and come one by one.
        """
        key = (frame.shape, frame.dtype.str)
        turns = self._stagings.get(key)
        if turns is None:
            self._drop_stagings()
            # one is filled while the other may still be copied
            turns = [cuda.Staging(frame.shape, frame.dtype, self._stream) for _ in range(2)]
            self._stagings[key] = turns
        if not turns[0].free:
            turns.reverse()
        (made,) = self._scratch("frame", [(frame.shape, frame.dtype)])
        return made, turns[0].fill(frame)

    def _scratch(self, use: str, parts: list[tuple[tuple[int, ...], Any]]) -> list[DeviceTensor]:
        """Memory that one piece of work fills and reads; kept for the next one of those shapes."""
        known = self._kept.get(use)
        if known is None or known[0] != parts:
            known = self._kept[use] = parts, self._pool.block(parts, self._stream, use)
        return known[1]

    def _drop_stagings(self) -> None:
        """Frames of another size, as a rule of another video, come with memory of their own."""
        if self._stagings:
            self._stream.synchronize()
        for staging in (s for turns in self._stagings.values() for s in turns):
            staging.close()
        self._stagings.clear()

    def _cached(self, key: tuple[Any, ...], make: Any) -> list[DeviceTensor]:
        """Tables on the device; there are as many as there are frame sizes in use."""
        if key not in self._tables:
            self._tables[key] = [self._uploaded(table) for table in make()]
        return self._tables[key]

    def _empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceTensor:
        return DeviceTensor.pooled(self._pool, shape, dtype, self._stream)

    def _launch(self, name: str, grid: tuple[int, ...], *arguments: Any) -> None:
        passed = [a.address() if isinstance(a, DeviceTensor) else a for a in arguments]
        self._kernels[name].launch(grid, self._stream, *passed)


def _tiles(count: int) -> int:
    return math.ceil(count / _BLOCK)
