"""Masks of everything in an image: the original's SAM2AutomaticMaskGenerator, in numpy.

A grid of points, each a prompt of its own; masks that are unsure, unstable or seen before are
dropped. Candidates stay at low resolution until they are chosen: those whose predicted IoU passed
are scored at full size a block at a time, only where they can cover the image, and become masks
when no better one covers the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np

from ...configs.bundle import Bundle
from ...configs.checks import real_number, shown, whole_number
from ...configs.closing import Closing
from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ..arrays import Array, Frame, Logits, Scores
from ..packages import coco_mask, opencv
from ..pixels.components import clean_mask
from ..pixels.frame_tensor import check_frame
from ..session import Session
from .automask import (
    Box,
    LowRes,
    checked_grids,
    crop_boxes,
    is_cut_off,
    layer_grids,
    measure,
    non_maximum_suppression,
    run_lengths,
)
from .image import ImagePredictor
from .image_prompts import ImagePrompts
from .mask_records import OutputMode, encoded_mask, without_small_regions, xywh
from .predictor import one_bundle
from .pretrained import pretrained_bundle

G = TypeVar("G", bound="MaskGenerator")


@dataclass(frozen=True)
class _Found:
    """A mask that passed; box and point in pixels of the image."""

    low_res: LowRes
    box: Box
    iou: np.float32
    stability: float
    point: tuple[float, float]
    crop: Box


class MaskGenerator(Closing):
    """Finds the masks of an image without prompts.

    Names and defaults are the original's. points_per_side: points along one side of the grid, or
    None with point_grids ([K, 2] x, y in 0..1, one per crop layer). points_per_batch: points
    decoded together. pred_iou_thresh, stability_score_thresh: masks must exceed / reach them (0:
    no limit); stability compares the areas at mask_threshold +- stability_score_offset.
    box_nms_thresh: of two masks whose boxes overlap more than this IoU the better one stays.
    crop_n_layers: layer i searches 4^i crops that overlap by crop_overlap_ratio of the image's
    shorter side, with points_per_side / crop_n_points_downscale_factor^i points a side; between
    crops crop_nms_thresh applies, smaller crops first. use_m2m: each mask is refined once by
    itself. multimask_output: three masks a point instead of one.

    min_mask_region_area: holes and islands of at most this many *low-resolution* pixels (a mask
    has 256 x 256 for an image size of 1024) are filled and removed before masks are scored. That
    is what the original does, although it documents pixels of the image: for those use
    :meth:`postprocess_small_regions`. Needs OpenCV.

    apply_postprocessing: see ImagePredictor. model: the original's name of `bundle`. session: an
    open session to share instead of `backend`, `device` and `threads`.
    """

    def __init__(
        self,
        bundle: Bundle | None = None,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[Array] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        *,
        apply_postprocessing: bool = True,
        model: Bundle | None = None,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        session: Session | None = None,
    ) -> None:
        _check_options(output_mode, points_per_batch, min_mask_region_area)
        self.point_grids = _grids(
            points_per_side, point_grids, crop_n_layers, crop_n_points_downscale_factor
        )
        self.predictor = ImagePredictor(
            one_bundle(bundle, "model", model),
            backend,
            device,
            threads,
            apply_postprocessing=apply_postprocessing,
            session=session,
        )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = _share("pred_iou_thresh", pred_iou_thresh)
        self.stability_score_thresh = _share("stability_score_thresh", stability_score_thresh)
        self.stability_score_offset = real_number(
            "stability_score_offset", stability_score_offset, 0
        )
        self.mask_threshold = real_number("mask_threshold", mask_threshold)
        self.box_nms_thresh = _share("box_nms_thresh", box_nms_thresh)
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = _share("crop_nms_thresh", crop_nms_thresh)
        self.crop_overlap_ratio = _share("crop_overlap_ratio", crop_overlap_ratio)
        self.min_mask_region_area = min_mask_region_area
        self.output_mode: OutputMode = output_mode
        self.use_m2m = use_m2m
        self.multimask_output = multimask_output

    @classmethod
    def from_pretrained(cls: type[G], model_id: str | os.PathLike[str], **kwargs: Any) -> G:
        """A generator of a bundle folder or a model name; see ImagePredictor.from_pretrained."""
        return cls(pretrained_bundle(model_id), **kwargs)

    def generate(self, image: Any, progress: Progress = silent) -> list[dict[str, Any]]:
        """The masks of an image [H, W, 3] uint8 RGB, the surest first within a crop.

        Each record holds: segmentation ([H, W] bool, or a run-length encoding as output_mode
        says), area (pixels), bbox (x, y, w, h with w = last column - first column),
        predicted_iou, point_coords ([[x, y]], the point that found it), stability_score, crop_box
        (x, y, w, h). Raises FrameError for an image that cannot be used.
        """
        rgb = check_frame(image)
        size = (rgb.shape[0], rgb.shape[1])
        crops = crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        total = sum(len(self.point_grids[layer]) for layer, _ in crops)
        done, found = 0, list[_Found]()
        for layer, crop in crops:
            candidates: list[_Found] = []
            for batch, count in self._search(rgb, crop, self.point_grids[layer]):
                candidates += batch
                done += count
                progress("looking for masks", done, total)
            found += _best(candidates, [f.iou for f in candidates], self.box_nms_thresh)
        self.predictor.reset_predictor()
        if len(crops) > 1:
            # masks of smaller crops are preferred
            found = _best(found, [1 / _area(f.crop) for f in found], self.crop_nms_thresh)
        return [self._record(f, size) for f in found]

    @staticmethod
    def postprocess_small_regions(
        records: Sequence[dict[str, Any]], min_area: float, nms_thresh: float
    ) -> list[dict[str, Any]]:
        """Fill holes and remove islands smaller than min_area pixels of the image.

        records: what :meth:`generate` gave, in any output mode. Where masks became duplicates,
        unchanged ones are preferred; they come first. Needs OpenCV.
        """
        real_number("min_area", min_area, 0)
        _share("nms_thresh", nms_thresh)
        return without_small_regions(records, min_area, nms_thresh)

    def close(self) -> None:
        """Free the session if this generator opened it."""
        self.predictor.close()

    def __enter__(self: G) -> G:
        self.predictor.__enter__()
        return self

    def _search(self, rgb: Frame, crop: Box, grid: Array) -> Iterator[tuple[list[_Found], int]]:
        """Candidates of one crop, a batch of points at a time, and how many points that was."""
        x0, y0, x1, y1 = crop
        self.predictor.set_image(rgb[y0:y1, x0:x1])
        points = grid * np.array([x1 - x0, y1 - y0])
        for first in range(0, len(points), self.points_per_batch):
            batch = points[first : first + self.points_per_batch]
            yield self._passing(batch, crop, (rgb.shape[0], rgb.shape[1])), len(batch)

    def _passing(self, points: Array, crop: Box, size: tuple[int, int]) -> list[_Found]:
        """What passes of the masks of some points (pixels of the crop)."""
        low_res, ious = self._decode(points, crop, None, self.multimask_output)
        points = np.repeat(points, low_res.shape[1], axis=0)
        low_res, ious = low_res.reshape(-1, 1, *low_res.shape[2:]), ious.ravel()
        if self.use_m2m:
            low_res, ious = self._refined(points, crop, low_res)
        if self.pred_iou_thresh > 0:
            sure = np.flatnonzero(ious > self.pred_iou_thresh)
            points, low_res, ious = points[sure], low_res[sure], ious[sure]
        area = self.min_mask_region_area
        low_res = clean_mask(low_res, 0.0, area, area) if area > 0 else low_res
        found = (
            self._at_full_size(*candidate, crop, size)
            for candidate in zip(low_res[:, 0], ious, points, strict=True)
        )
        return [f for f in found if f is not None]

    def _refined(self, points: Array, crop: Box, low_res: Logits) -> tuple[Logits, Scores]:
        """Each mask again, with itself as the prompt beside its point."""
        parts = []
        for first in range(0, len(points), self.points_per_batch):
            rows = slice(first, first + self.points_per_batch)
            prompt = np.clip(low_res[rows], np.float32(-32), np.float32(32))
            parts.append(self._decode(points[rows], crop, prompt, multimask=False))
        masks, ious = zip(*parts, strict=True)
        return np.concatenate(masks), np.concatenate(ious)[:, 0]

    def _decode(
        self, points: Array, crop: Box, mask_input: Logits | None, multimask: bool
    ) -> tuple[Logits, Scores]:
        size = np.array([crop[2] - crop[0], crop[3] - crop[1]])
        n = len(points)
        coords = np.zeros((n, 2, 2), np.float32)
        coords[:, 0] = points / size * self.predictor.config.image_size
        labels = np.tile(np.array([1, -1], np.int32), (n, 1))
        return self.predictor.predict_low_res(ImagePrompts(coords, labels, mask_input), multimask)

    def _at_full_size(
        self, logits: Logits, iou: np.float32, point: Array, crop: Box, size: tuple[int, int]
    ) -> _Found | None:
        """A candidate scored in pixels of the image; None when it does not pass."""
        x0, y0, x1, y1 = crop
        threshold, offset = self.mask_threshold, self.stability_score_offset
        stability, box = measure(logits, (y1 - y0, x1 - x0), threshold, offset)
        least = np.float32(self.stability_score_thresh)
        if self.stability_score_thresh > 0 and not stability >= least:
            return None
        a, b, c, d = box or (0, 0, 0, 0)
        box = (a + x0, b + y0, c + x0, d + y0)
        if is_cut_off(box, crop, size):
            return None
        x, y = (float(np.float32(p + c)) for p, c in zip(point, (x0, y0), strict=True))
        return _Found(LowRes.cut(logits, threshold), box, iou, stability, (x, y), crop)

    def _record(self, found: _Found, size: tuple[int, int]) -> dict[str, Any]:
        x0, y0, x1, y1 = found.crop
        mask, (top, left) = found.low_res.mask((y1 - y0, x1 - x0), self.mask_threshold)
        runs = run_lengths(mask, (y0 + top, x0 + left), size)
        return {
            "segmentation": encoded_mask(runs, self.output_mode),
            "area": runs.area,
            "bbox": xywh(found.box),
            "predicted_iou": float(found.iou),
            "point_coords": [list(found.point)],
            "stability_score": found.stability,
            "crop_box": xywh(found.crop),
        }


def _share(name: str, value: Any) -> float:
    return real_number(name, value, 0, 1)


def _check_options(mode: str, points_per_batch: int, min_mask_region_area: int) -> None:
    if not isinstance(mode, str) or mode not in get_args(OutputMode):
        known = ", ".join(get_args(OutputMode))
        raise InputError(f"unknown output_mode {shown(mode)}: expected one of {known}")
    whole_number("points_per_batch", points_per_batch, 1)
    real_number("min_mask_region_area", min_mask_region_area, 0)
    # a missing package is reported now, not after minutes of work
    if mode == "coco_rle":
        coco_mask()
    if min_mask_region_area > 0:
        opencv("min_mask_region_area")


def _grids(
    per_side: int | None, grids: Sequence[Array] | None, layers: int, downscale: int
) -> list[Array]:
    layers = whole_number("crop_n_layers", layers, 0)
    downscale = whole_number("crop_n_points_downscale_factor", downscale, 1)
    if per_side is not None and grids is None:
        return layer_grids(whole_number("points_per_side", per_side), layers, downscale)
    if grids is not None and per_side is None:
        return checked_grids(grids, layers)
    raise InputError("give either points_per_side or point_grids, the other as None")


def _best(found: list[_Found], scores: Sequence[Any], threshold: float) -> list[_Found]:
    boxes = np.array([f.box for f in found]).reshape(-1, 4)
    kept = non_maximum_suppression(boxes, np.asarray(scores, np.float32), threshold)
    return [found[i] for i in kept]


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
