"""FiftyOne: models for ``dataset.apply_model``, one for images and one for videos.

``prompt_field`` names detections (boxes) or keypoints, as FiftyOne's own models of SAM 2 take
them. Interfaces: ``fiftyone.core.models.Model``, ``SamplesMixin``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.checks import shown, shown_line
from ...configs.errors import InputError, MissingToolError
from ...runtime.arrays import Array, Mask
from ...runtime.backends.open import open_session
from ...runtime.predictors.image import ImagePredictor
from ...runtime.predictors.mask_generator import MaskGenerator
from ...runtime.predictors.pretrained import pretrained_bundle
from ...runtime.predictors.video import VideoPredictor
from ...runtime.session import Session
from .outlines import edges_of

try:
    import fiftyone.core.labels as fol
    from fiftyone.core.clips import ClipView
    from fiftyone.core.models import Model, SamplesMixin
except ImportError as error:
    raise MissingToolError(
        f"sam2rt in FiftyOne needs its package ({shown_line(str(error))}): pip install fiftyone, "
        "in an environment of its own"
    ) from None

#: what masks without a prompt are called
_UNNAMED = "object"


@dataclass(frozen=True)
class _Prompt:
    """A detection or a keypoint in pixels of a frame."""

    label: str
    #: FiftyOne's number of the object; None where it has none
    index: int | None
    box: Array | None = None
    #: [P, 2] x, y
    points: Array | None = None

    def clicks(self) -> tuple[Array | None, Array | None]:
        """Points and labels as the predictors take them: all are positive."""
        if self.points is None:
            return None, None
        return self.points, np.ones(len(self.points), np.int32)


class _Model(SamplesMixin, Model):  # type: ignore[misc]
    """What both models have in common."""

    ragged_batches = False
    transforms = None
    preprocess = False

    def __init__(self, session: Session) -> None:
        SamplesMixin.__init__(self)
        self._session = session

    def _field(self) -> str | None:
        """The field of the prompts; None where none was named."""
        fields = self.needs_fields or {}
        name: str | None = fields.get("prompt_field", next(iter(fields.values()), None))
        return name


class FiftyOneImages(_Model):
    """Masks of an image: of the boxes or keypoints of ``prompt_field``, or of everything.

    Masks are those of :class:`~sam2rt.ImagePredictor`, one a prompt with its label, and without a
    prompt field those of :class:`~sam2rt.MaskGenerator`; the confidence is the predicted IoU.
    """

    media_type = "image"

    def predict(self, arg: Any, sample: Any = None) -> Any:
        """``Detections`` of an image uint8 RGB [H, W, 3]. InputError, FrameError."""
        field = self._field()
        if field is None:
            found = MaskGenerator(self._session.bundle, session=self._session).generate(arg)
            return fol.Detections(
                detections=_detections(
                    (r["segmentation"], _UNNAMED, None, r["predicted_iou"]) for r in found
                )
            )
        height, width = np.asarray(arg).shape[:2]
        prompts = _prompts(sample[field] if sample is not None else None, (height, width))
        with closing(ImagePredictor(self._session.bundle, session=self._session)) as predictor:
            if prompts:
                predictor.set_image(arg)
            detections = list(_detections(_segmented(predictor, prompts)))
        return fol.Detections(detections=detections)


def _segmented(
    predictor: ImagePredictor, prompts: list[_Prompt]
) -> Iterator[tuple[Mask, str, int | None, float]]:
    for prompt in prompts:
        clicks = prompt.clicks()
        masks, ious, _ = predictor.predict(*clicks, box=prompt.box, multimask_output=False)
        yield np.asarray(masks[0], bool), prompt.label, prompt.index, float(ious[0])


class FiftyOneVideos(_Model):
    """Objects followed through a video from the boxes or keypoints of ``prompt_field``.

    The field is one of frames, such as ``frames.detections``. Prompts of one ``index`` are one
    object, on later frames too; one without an index is an object of its own. Masks are those of
    :class:`~sam2rt.VideoPredictor`, from the first prompted frame on; of a clip's view, its frames.
    """

    media_type = "video"

    def predict(self, arg: Any, sample: Any = None) -> Any:
        """By frame number from 1, ``Detections``. InputError, FrameError."""
        field = self._field()
        if field is None or not field.startswith("frames.") or sample is None:
            raise InputError(
                f"prompt_field is {shown(field)}: expected a field of frames with boxes or "
                "keypoints, such as prompt_field='frames.detections'"
            )
        width, height = arg.frame_size
        # clips of FiftyOne count from 1 and hold their last frame
        first, last = sample.support if isinstance(sample, ClipView) else (1, None)
        asked = {
            number: _prompts(frame[field.removeprefix("frames.")], (height, width))
            for number, frame in sorted(sample.frames.items())
            if number >= first and (last is None or number <= last)
        }
        asked = {number: prompts for number, prompts in asked.items() if prompts}
        if not asked:
            raise InputError(f"field {shown(field)} is empty on every frame: give it a prompt")
        return self._tracked(sample.filepath, asked, last)

    def _tracked(
        self, path: str, asked: dict[int, list[_Prompt]], last: int | None
    ) -> dict[int, Any]:
        predictor = VideoPredictor(self._session.bundle, session=self._session)
        found = {}
        state = predictor.init_state(path)
        with closing(predictor), closing(state.frames):
            objects = self._add(predictor, state, asked)
            start = min(asked) - 1
            more = None if last is None else last - 1 - start
            for frame, ids, logits in predictor.propagate_in_video(state, start, more):
                masks = np.asarray(logits)[:, 0] > 0
                rows = ((m, *objects[i], None) for i, m in zip(ids, masks, strict=True))
                found[frame + 1] = fol.Detections(detections=list(_detections(rows)))
        return found

    @staticmethod
    def _add(
        predictor: VideoPredictor, state: Any, asked: dict[int, list[_Prompt]]
    ) -> dict[int, tuple[str, int]]:
        """Prompt each object; its label and number by its id."""
        objects: dict[int, tuple[str, int]] = {}
        ids: dict[int, int] = {}
        taken = {p.index for prompts in asked.values() for p in prompts if p.index is not None}
        free = (number for number in itertools.count(1) if number not in taken)
        for number, prompts in asked.items():
            for prompt in prompts:
                index = next(free) if prompt.index is None else prompt.index
                made = ids.setdefault(index, len(ids) + 1)
                objects.setdefault(made, (prompt.label, index))
                points, labels = prompt.clicks()
                predictor.add_new_points_or_box(
                    state, number - 1, made, points, labels, box=prompt.box
                )
        return objects


def _prompts(value: Any, size: tuple[int, int]) -> list[_Prompt]:
    """The prompts of a field, in pixels. size: (height, width). InputError for other fields."""
    if value is None:
        return []
    scale = np.array([size[1], size[0]], np.float64)
    if isinstance(value, fol.Detections):
        return [_of_detection(d, scale) for d in value.detections]
    if isinstance(value, fol.Keypoints):
        made = (_of_keypoint(k, scale) for k in value.keypoints)
        return [prompt for prompt in made if prompt is not None]
    raise InputError(f"a prompt field of {type(value).__name__}: expected Detections or Keypoints")


def _of_detection(detection: Any, scale: Array) -> _Prompt:
    x, y, width, height = detection.bounding_box
    box = np.concatenate([(x, y) * scale, (x + width, y + height) * scale])
    return _Prompt(detection.label or _UNNAMED, detection.index, box=box)


def _of_keypoint(keypoint: Any, scale: Array) -> _Prompt | None:
    """None where no point of it is seen, which FiftyOne writes as NaN."""
    points = np.asarray(keypoint.points, np.float64).reshape(-1, 2) * scale
    points = points[np.isfinite(points).all(axis=1)]
    return (
        _Prompt(keypoint.label or _UNNAMED, keypoint.index, points=points) if len(points) else None
    )


def _detections(
    rows: Iterator[tuple[Mask, str, int | None, float | None]],
) -> Iterator[Any]:
    """A detection a row of mask, label, index and confidence; none for an object not seen."""
    for mask, label, index, score in rows:
        edges = edges_of(mask)
        if edges is None:
            continue
        x0, y0, x1, y1 = map(int, edges)
        height, width = mask.shape
        yield fol.Detection(
            label=label,
            index=index,
            confidence=score,
            bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
            mask=np.ascontiguousarray(mask[y0:y1, x0:x1]),
        )


def model(
    bundle: str,
    media_type: str = "image",
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
) -> FiftyOneImages | FiftyOneVideos:
    """A model for ``apply_model``.

    bundle: folder of a bundle, or a model's name. media_type: image or video. Others as for
    predictors. Raises InputError for another media type, and as predictors do.
    """
    if media_type not in ("image", "video"):
        raise InputError(f"media_type is {shown(media_type)}: expected image or video")
    session = open_session(pretrained_bundle(bundle), backend, device, threads)
    # FiftyOne keeps a model as long as its process lives, and so does the session
    return FiftyOneImages(session) if media_type == "image" else FiftyOneVideos(session)
