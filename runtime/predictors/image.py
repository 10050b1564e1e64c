"""Segment images from points, boxes and masks: the original's SAM2ImagePredictor, in numpy.

An image is encoded once; every prompt after that costs one small decoder call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from ...configs.bundle import Bundle
from ...configs.checks import real_number, shown
from ...configs.errors import FrameError, InputError, StateError
from ...configs.models import ModelConfig
from ..arrays import Array, Embedding, Logits, Mask, Scores, check_numbers
from ..pixels.components import clean_mask
from ..pixels.frame_input import FrameInput
from ..pixels.mask_output import image_masks, repeated
from ..pixels.upsample import upsample_bilinear
from ..session import Session
from ..tracking.encoded import EncodedFrame
from ..tracking.tracker import Features
from .image_prompts import ImagePrompts, image_prompts
from .predictor import Predictor, one_bundle

#: prompts handed to one decoder call, images to one encoder call: bounds working memory
_PROMPTS_PER_CALL = 32
_IMAGES_PER_CALL = 4

#: masks (logits if asked for), predicted IoU, low-resolution logits
Prediction = tuple[Mask | Logits, Scores, Logits]

Method = TypeVar("Method", bound=Callable[..., Any])


def _alone(method: Method) -> Method:
    """The image stays what it is until the method ends; another thread that sets one waits."""

    @wraps(method)
    def waiting(self: ImagePredictor, *given: Any, **named: Any) -> Any:
        with self._using:
            return method(self, *given, **named)

    return cast(Method, waiting)


class ImagePredictor(Predictor):
    """Segments what prompts point at in one image, or in a batch of images.

    Names, defaults and return shapes are the original's. mask_threshold: logits above it are
    mask. max_hole_area, max_sprinkle_area: background holes and specks of at most this many
    low-resolution pixels are filled and removed (0: left alone; needs OpenCV).
    apply_postprocessing: False, as in the original's builder, leaves out the stability rule: one
    mask is always the first of the four. sam_model: the original's name of `bundle`. session: an
    open session to share instead of `backend`, `device` and `threads`. An image belongs to the
    thread that set it: predicting in another one is a StateError, for it could be anyone's.
    """

    def __init__(
        self,
        bundle: Bundle | None = None,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        *,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        apply_postprocessing: bool = True,
        sam_model: Bundle | None = None,
        session: Session | None = None,
    ) -> None:
        bundle = one_bundle(bundle, "sam_model", sam_model)
        super().__init__(bundle, backend, device, threads, session)
        self.mask_threshold = real_number("mask_threshold", mask_threshold)
        self.max_hole_area = real_number("max_hole_area", max_hole_area, 0)
        self.max_sprinkle_area = real_number("max_sprinkle_area", max_sprinkle_area, 0)
        self.apply_postprocessing = bool(apply_postprocessing)
        self._input = FrameInput(self.session, self.config.image_size)
        self._encoded: list[Features] = []
        self._sizes: list[tuple[int, int]] = []
        self._is_batch = False
        #: the thread whose images these are
        self._owner: threading.Thread | None = None

    @property
    def is_image_set(self) -> bool:
        """Whether there is an image to predict on."""
        return bool(self._encoded)

    def set_image(self, image: Any) -> None:
        """Encode one image: uint8 RGB [H, W, 3], grey, RGBA, or a Pillow image.

        A session with kernels for pixels also takes uint8 RGB that lies on its GPU.

        Raises FrameError for anything else; the image set before stays then.
        """
        self._encode([self._input.checked(image)], is_batch=False)

    def set_image_batch(self, image_list: Sequence[Any]) -> None:
        """Encode several images of any sizes, for :meth:`predict_batch`."""
        _check_list(image_list)
        frames = []
        for i, image in enumerate(image_list):
            try:
                frames.append(self._input.checked(image))
            except FrameError as error:
                raise FrameError(f"image {i}: {error}") from None
        self._encode(frames, is_batch=True)

    @_alone
    def predict(
        self,
        point_coords: Any | None = None,
        point_labels: Any | None = None,
        box: Any | None = None,
        mask_input: Any | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Prediction:
        """Masks for one prompt, or for N prompts at once.

        point_coords: [P, 2] or [N, P, 2] x, y in pixels of the image (fractions 0..1 with
        normalize_coords False); point_labels: [P] or [N, P], 1 positive, 0 negative; box: [4]
        or [N, 4] x0, y0, x1, y1; mask_input: [1, 4h, 4w] (or [N, 1, 4h, 4w]) low-resolution
        logits of an earlier prediction. Any may be left out; empty points, labels and boxes
        count as left out.

        Returns masks [C, H, W] bool (float32 logits with return_logits), predicted IoU [C]
        float32 and logits [C, 4h, 4w] float32 clamped to +-32; each with a leading N for N > 1
        prompts. C is 3 with multimask_output (the parts a click could mean), else 1 (the
        original's stability rule picks). The original gives masks as float32 of 0 and 1.

        Raises InputError (the predictor stays usable), StateError without an image.
        """
        self._need_image()
        if self._is_batch:
            raise StateError("a batch of images is set: call predict_batch, or set_image first")
        return self._predict(
            0,
            point_coords,
            point_labels,
            box,
            mask_input,
            multimask_output,
            return_logits,
            normalize_coords,
        )

    @_alone
    def predict_batch(
        self,
        point_coords_batch: Sequence[Any] | None = None,
        point_labels_batch: Sequence[Any] | None = None,
        box_batch: Sequence[Any] | None = None,
        mask_input_batch: Sequence[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[Mask | Logits], list[Scores], list[Logits]]:
        """:meth:`predict` on each image of the batch; each argument holds one item per image.

        Images may have different numbers of prompts. Returns lists of masks, IoUs and
        low-resolution logits.
        """
        self._open_still()
        if not self._is_batch:
            raise StateError("no batch of images is set: call set_image_batch first")
        self._check_owner()
        count = len(self._encoded)
        points = _per_image("point_coords_batch", point_coords_batch, count)
        labels = _per_image("point_labels_batch", point_labels_batch, count)
        boxes = _per_image("box_batch", box_batch, count)
        inputs = _per_image("mask_input_batch", mask_input_batch, count)
        results = [
            self._predict(
                i,
                points[i],
                labels[i],
                boxes[i],
                inputs[i],
                multimask_output,
                return_logits,
                normalize_coords,
            )
            for i in range(count)
        ]
        masks, ious, low_res = (list(part) for part in zip(*results, strict=True))
        return masks, ious, low_res

    @_alone
    def predict_low_res(
        self, prompts: ImagePrompts, multimask_output: bool = True, image_index: int = 0
    ) -> tuple[Logits, Scores]:
        """What the decoder says: logits [N, C, 4h, 4w], not clamped, and IoU [N, C], float32.

        Raises SessionError where they are no numbers.
        """
        self._need_image()
        features = self._encoded[image_index]
        most = _at_most(_PROMPTS_PER_CALL, self.session.max_objects)
        parts = [
            self._decode(features, prompts.part(i, most), multimask_output)
            for i in range(0, len(prompts), most)
        ]
        logits, ious = (np.concatenate(part) for part in zip(*parts, strict=True))
        for number, (mask, iou) in enumerate(zip(logits, ious, strict=True), 1):
            check_numbers(f"image {image_index}, object {number}", mask_logits=mask, iou=iou)
        return logits, ious

    @property
    def encoded_image(self) -> EncodedFrame:
        """The image that is set, encoded, for :meth:`set_encoded` of another predictor."""
        self._need_image()
        return EncodedFrame(self._sizes[0], self._encoded[0], self.bundle)

    def set_encoded(self, image: EncodedFrame) -> None:
        """Take an image's :attr:`encoded_image` instead of :meth:`set_image`; nothing is computed.

        Raises InputError for anything else, and for one of another bundle.
        """
        self._open_still()
        if not isinstance(image, EncodedFrame):
            raise InputError(f"image is {shown(image)}: expected a predictor's encoded_image")
        image.check_bundle(self.bundle)
        with self._using:
            self._encoded, self._sizes, self._is_batch = [image.features], [image.size], False
            self._owner = threading.current_thread()

    @_alone
    def get_image_embedding(self) -> Embedding:
        """The embedding [1, C, h, w] float32, no-memory embedding included; [B, ...] of a batch."""
        self._need_image()
        return np.concatenate([f.prompt_embed for f in self._encoded])

    @property
    def _features(self) -> dict[str, Embedding]:
        """The original's private name; its example notebook prints the embedding's shape."""
        return {"image_embed": self.get_image_embedding()}

    @_alone
    def reset_predictor(self) -> None:
        """Forget the image or images."""
        self._encoded, self._sizes, self._is_batch = [], [], False
        self._owner = None

    def _need_image(self) -> None:
        self._open_still()
        if not self._encoded:
            raise StateError("no image is set: call set_image first")
        self._check_owner()

    def _check_owner(self) -> None:
        here = threading.current_thread()
        if self._owner is not None and self._owner is not here:
            raise StateError(
                f"the image was set by thread {self._owner.name}, this is {here.name}: make a "
                "predictor for each thread, with session= they share one"
            )

    def _encode(self, frames: Sequence[tuple[Any, tuple[int, int]]], *, is_batch: bool) -> None:
        self._open_still()
        features: list[Features] = []
        most = _at_most(_IMAGES_PER_CALL, self.session.max_images)
        for first in range(0, len(frames), most):
            part = frames[first : first + most]
            pixels = self._input.image_tensors([frame for frame, _ in part])
            out = self.session.run("image_encoder", {"image": pixels})
            features += [
                Features(**{name: array[i][None] for name, array in out.items()})
                for i in range(len(part))
            ]
        with self._using:
            self._encoded, self._is_batch = features, is_batch
            self._sizes = [size for _, size in frames]
            self._owner = threading.current_thread()

    def _predict(
        self,
        index: int,
        point_coords: Any,
        point_labels: Any,
        box: Any,
        mask_input: Any,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> Prediction:
        size, multimask_output = self._sizes[index], bool(multimask_output)
        prompts = image_prompts(
            point_coords,
            point_labels,
            box,
            mask_input,
            frame_size=size if normalize_coords else None,
            config=self.config,
        )
        low_res, ious = self.predict_low_res(prompts, multimask_output, index)
        rule = (self.mask_threshold, self.max_hole_area, self.max_sprinkle_area)
        masks: Mask | Logits
        if return_logits:
            masks = upsample_bilinear(clean_mask(low_res, *rule), size)
        else:
            masks = image_masks(self.session, low_res, size, *rule)
        low_res = np.clip(low_res, np.float32(-32), np.float32(32))
        if len(prompts) == 1:
            return masks[0], ious[0], low_res[0]
        return masks, ious, low_res

    def _decode(
        self, features: Features, prompts: ImagePrompts, multimask_output: bool
    ) -> tuple[Logits, Scores]:
        n, side = len(prompts), self.config.mask_size
        mask = prompts.mask_input
        out = self.session.run(
            "mask_decoder",
            {
                "conditioned_embed": repeated(self.session, features.prompt_embed, n),
                "high_res_0": features.high_res_0,
                "high_res_1": features.high_res_1,
                "point_coords": prompts.coords,
                "point_labels": prompts.labels,
                "mask_input": np.zeros((n, 1, side, side), np.float32) if mask is None else mask,
                "has_mask_input": np.full(n, mask is not None, np.float32),
                "multimask_output": np.array([multimask_output]),
            },
        )
        logits, ious = out["all_mask_logits"], out["all_ious"]
        if multimask_output:
            return logits[:, 1:], ious[:, 1:]
        if not self.apply_postprocessing:
            return logits[:, :1], ious[:, :1]
        chosen = single_masks(logits, ious, self.config)[:, None]
        rows = np.arange(n)[:, None]
        return logits[rows, chosen], ious[rows, chosen]


def _at_most(wanted: int, limit: int | None) -> int:
    """How many one call takes; engines are built for a largest number."""
    return wanted if limit is None else min(wanted, limit)


def _is_list(values: Any) -> bool:
    has_items = hasattr(values, "__len__") and hasattr(values, "__getitem__")
    return has_items and getattr(values, "ndim", 1) > 0


def _check_list(images: Any) -> None:
    shape = np.shape(images) if isinstance(images, np.ndarray) else ()
    # the rows of a single image would pass for grey images
    if len(shape) == 3 and shape[2] in (3, 4):
        raise InputError(f"image_list is one image of shape {shape}: use [image], or set_image")
    if isinstance(images, (str, bytes, dict)) or not _is_list(images):
        raise InputError(f"image_list is {shown(images)}: expected a list of images")
    if len(images) == 0:
        raise InputError("no image was given: expected at least one")


def _per_image(name: str, batch: Sequence[Any] | None, count: int) -> Sequence[Any]:
    if batch is None:
        return [None] * count
    if not _is_list(batch):
        raise InputError(f"{name} is {shown(batch)}: expected a list of {count}, one an image")
    if len(batch) != count:
        raise InputError(f"{name} has {len(batch)} items for {count} images: give one an image")
    return batch


def single_masks(logits: Logits, ious: Scores, config: ModelConfig) -> Array:
    """Which of the four masks stands for each prompt when one is wanted: [N] int.

    logits: [N, 4, h, w]; ious: [N, 4]. Mask 0 where it is stable (few pixels near the
    threshold), else the one of the others with the highest predicted IoU. The original's
    ``_dynamic_multimask_via_stability``.
    """
    delta = np.float32(config.stability_delta)
    inner = np.count_nonzero(logits[:, 0] > delta, axis=(-2, -1))
    outer = np.count_nonzero(logits[:, 0] > -delta, axis=(-2, -1))
    stability = np.where(outer > 0, inner / np.maximum(outer, 1), 1.0).astype(np.float32)
    stable = stability >= np.float32(config.stability_threshold)
    chosen: Array = np.where(stable, 0, 1 + ious[:, 1:].argmax(axis=1))
    return chosen
