"""The C ABI of the C++ library through ctypes, as another language would call it."""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
END = 1


class Failed(Exception):
    """A call that gave an error: its status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Error(c.Structure):
    _fields_ = (("status", c.c_int), ("message", c.c_char * 1024))


class _Frame(c.Structure):
    _fields_ = (
        ("data", c.c_void_p), ("width", c.c_int32), ("height", c.c_int32), ("stride", c.c_size_t),
        ("format", c.c_int32), ("cuda", c.c_int32), ("chroma", c.c_void_p),
    )  # fmt: skip


class _Prompt(c.Structure):
    _fields_ = (
        ("points", c.c_void_p), ("labels", c.c_void_p), ("count", c.c_size_t),
        ("box", c.c_void_p), ("keep_old_points", c.c_int32),
    )  # fmt: skip


class Options(c.Structure):
    _fields_ = (
        ("non_overlap_masks", c.c_int32), ("max_cond_frames_in_attn", c.c_int32),
        ("fill_hole_area", c.c_int32), ("objects_per_call", c.c_int32),
        ("add_all_frames_to_correct_as_cond", c.c_int32), ("num_frames", c.c_int32),
        ("memory_dtype", c.c_char_p),
    )  # fmt: skip


class _Result(c.Structure):
    _fields_ = (
        ("capacity", c.c_size_t), ("count", c.c_size_t), ("frame_idx", c.c_int32),
        ("obj_ids", c.c_void_p), ("object_scores", c.c_void_p), ("ious", c.c_void_p),
        ("logits", c.c_void_p), ("masks", c.c_void_p),
    )  # fmt: skip


_ReadFrame = c.CFUNCTYPE(c.c_int32, c.c_void_p, c.c_int32, c.POINTER(_Frame))


def _frame(rgb: Array) -> _Frame:
    return _Frame(rgb.ctypes.data, rgb.shape[1], rgb.shape[0], rgb.strides[0], 0, 0, None)


class _Given:
    """A prompt and the arrays it points to."""

    def __init__(self, points: Any, labels: Any, box: Any, clear_old_points: bool) -> None:
        self.points = np.array([] if points is None else points, np.float32)
        self.labels = np.array([] if labels is None else labels, np.int32)
        self.box = np.array([] if box is None else box, np.float32)
        self.prompt = _Prompt(
            None if points is None else self.points.ctypes.data,
            None if labels is None else self.labels.ctypes.data,
            self.labels.size if points is None else self.points.size // 2,
            None if box is None else self.box.ctypes.data,
            0 if clear_old_points else 1,
        )


class Library:
    """A loaded library; every object it makes is freed by `close`."""

    def __init__(self, path: Path) -> None:
        self.lib = c.CDLL(str(path))
        self.lib.sam2rt_version.restype = c.c_char_p
        self.lib.sam2rt_bundle_model.restype = c.c_char_p
        self._made: list[tuple[str, c.c_void_p]] = []

    def call(self, name: str, *arguments: Any) -> int:
        error = _Error()
        status: int = getattr(self.lib, name)(*arguments, c.byref(error))
        assert error.status == min(status, 0)
        if status < 0:
            raise Failed(status, error.message.decode())
        return status

    def make(self, kind: str, name: str, *arguments: Any) -> c.c_void_p:
        handle = c.c_void_p()
        self.call(name, *arguments, c.byref(handle))
        self._made.append((kind, handle))
        return handle

    def bundle(self, folder: Path, check_hashes: bool = True) -> c.c_void_p:
        return self.make("bundle", "sam2rt_bundle_load", str(folder).encode(), int(check_hashes))

    def session(self, bundle: c.c_void_p, threads: int = 1) -> c.c_void_p:
        return self.make("session", "sam2rt_session_open", bundle, b"onnxruntime", b"cpu", threads)

    def default_options(self) -> Options:
        options = Options()
        self.lib.sam2rt_default_options(c.byref(options))
        return options

    def close(self) -> None:
        for kind, handle in reversed(self._made):
            getattr(self.lib, f"sam2rt_{kind}_free")(handle)
        self._made.clear()


class Result:
    """Buffers for a number of objects."""

    def __init__(self, height: int, width: int, capacity: int = 8) -> None:
        self.ids = np.zeros(capacity, np.int64)
        self.scores, self.ious = np.zeros((2, capacity), np.float32)
        self._logits = np.zeros((capacity, height, width), np.float32)
        self._masks = np.zeros((capacity, height, width), np.uint8)
        self.raw = _Result(
            capacity, 0, -1, self.ids.ctypes.data, self.scores.ctypes.data, self.ious.ctypes.data,
            self._logits.ctypes.data, self._masks.ctypes.data,
        )  # fmt: skip

    @property
    def obj_ids(self) -> list[int]:
        return [int(i) for i in self.ids[: self.raw.count]]

    @property
    def logits(self) -> Array:
        return self._logits[: self.raw.count]

    @property
    def masks(self) -> Array:
        return self._masks[: self.raw.count]


class Stream:
    """sam2rt_stream_*."""

    def __init__(self, library: Library, session: c.c_void_p, options: Options | None = None):
        self._library = library
        given = None if options is None else c.byref(options)
        self._handle = library.make("stream", "sam2rt_stream_new", session, given)

    def add_points(
        self, obj_id: int, points: Any = None, labels: Any = None, box: Any = None,
        clear_old_points: bool = True,
    ) -> None:  # fmt: skip
        given = _Given(points, labels, box, clear_old_points)
        self._library.call(
            "sam2rt_stream_add_points", self._handle, c.c_int64(obj_id), c.byref(given.prompt)
        )

    def add_mask(self, obj_id: int, mask: Array) -> None:
        pixels = np.ascontiguousarray(mask, np.uint8)
        self._library.call(
            "sam2rt_stream_add_mask", self._handle, c.c_int64(obj_id),
            c.c_void_p(pixels.ctypes.data), pixels.shape[1], pixels.shape[0],
        )  # fmt: skip

    def remove_object(self, obj_id: int) -> None:
        self._library.call("sam2rt_stream_remove_object", self._handle, c.c_int64(obj_id))

    def reset(self) -> None:
        self._library.call("sam2rt_stream_reset", self._handle)

    def step(self, rgb: Array, result: Result | None) -> None:
        to = None if result is None else c.byref(result.raw)
        self._library.call("sam2rt_stream_step", self._handle, c.byref(_frame(rgb)), to)

    def result(self, result: Result) -> None:
        self._library.call("sam2rt_stream_result", self._handle, c.byref(result.raw))


class Video:
    """sam2rt_video_*, over an array of frames."""

    def __init__(
        self, library: Library, session: c.c_void_p, frames: Sequence[Array],
        options: Options | None = None,
    ) -> None:  # fmt: skip
        self._library = library
        given = None if options is None else c.byref(options)

        def read(_: Any, index: int, frame: Any) -> int:
            if index not in range(len(frames)):
                return 1
            frame[0] = _frame(frames[index])
            return 0

        self._read: Callable[..., int] = _ReadFrame(read)  # kept: the library calls it later
        height, width = frames[0].shape[:2]
        self._handle = library.make(
            "video", "sam2rt_video_new", session, given, len(frames), width, height, self._read,
            None,
        )  # fmt: skip

    def add_points(self, frame_idx: int, obj_id: int, result: Result, **prompt: Any) -> None:
        given = _Given(
            prompt.get("points"), prompt.get("labels"), prompt.get("box"),
            prompt.get("clear_old_points", True),
        )  # fmt: skip
        self._library.call(
            "sam2rt_video_add_points", self._handle, frame_idx, c.c_int64(obj_id),
            c.byref(given.prompt), c.byref(result.raw),
        )  # fmt: skip

    def add_mask(self, frame_idx: int, obj_id: int, mask: Array, result: Result) -> None:
        pixels = np.ascontiguousarray(mask, np.uint8)
        self._library.call(
            "sam2rt_video_add_mask", self._handle, frame_idx, c.c_int64(obj_id),
            c.c_void_p(pixels.ctypes.data), c.byref(result.raw),
        )  # fmt: skip

    def clear_prompts(self, frame_idx: int, obj_id: int, result: Result) -> None:
        self._library.call(
            "sam2rt_video_clear_prompts", self._handle, frame_idx, c.c_int64(obj_id),
            c.byref(result.raw),
        )  # fmt: skip

    def remove_object(self, obj_id: int) -> None:
        self._library.call("sam2rt_video_remove_object", self._handle, c.c_int64(obj_id))

    def reset(self) -> None:
        self._library.call("sam2rt_video_reset", self._handle)

    def propagate(self, start: int = -1, most: int = -1, reverse: bool = False) -> None:
        self._library.call("sam2rt_video_propagate", self._handle, start, most, int(reverse))

    def next(self, result: Result) -> bool:
        status = self._library.call("sam2rt_video_next", self._handle, c.byref(result.raw))
        return status != END


class Image:
    """sam2rt_image_*."""

    def __init__(self, library: Library, session: c.c_void_p) -> None:
        self._library = library
        self._handle = library.make("image", "sam2rt_image_new", session)
        self._size = (0, 0)

    def set(self, rgb: Array) -> None:
        self._library.call("sam2rt_image_set", self._handle, c.byref(_frame(rgb)))
        self._size = (rgb.shape[0], rgb.shape[1])

    def predict(self, points: Any, labels: Any, box: Any, multimask: bool) -> tuple[Array, Array]:
        count = 3 if multimask else 1
        masks, ious = np.zeros((count, *self._size), np.uint8), np.zeros(count, np.float32)
        given = _Given(points, labels, box, True)
        self._library.call(
            "sam2rt_image_predict", self._handle, c.byref(given.prompt), int(multimask),
            c.c_void_p(masks.ctypes.data), c.c_void_p(ious.ctypes.data),
        )  # fmt: skip
        return masks.astype(bool), ious

    def refine(
        self, points: Any, labels: Any, mask_input: Array | None, side: int
    ) -> tuple[Array, Array, Array]:
        masks, ious = np.zeros((3, *self._size), np.uint8), np.zeros(3, np.float32)
        low_res = np.zeros((3, side, side), np.float32)
        given = _Given(points, labels, None, True)
        earlier = None if mask_input is None else np.ascontiguousarray(mask_input, np.float32)
        self._library.call(
            "sam2rt_image_refine", self._handle, c.byref(given.prompt),
            None if earlier is None else c.c_void_p(earlier.ctypes.data), 1,
            *(c.c_void_p(array.ctypes.data) for array in (masks, ious, low_res)),
        )  # fmt: skip
        return masks.astype(bool), ious, low_res
