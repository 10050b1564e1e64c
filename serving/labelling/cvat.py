"""CVAT: functions for its agents, one that tracks shapes and one that answers clicks.

``cvat-cli function run-agent ID --function-module sam2rt.serving.labelling.cvat -p
bundle=str:FOLDER`` calls :func:`create`. Interfaces: ``cvat_sdk.auto_annotation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.checks import real_number, shown
from ...configs.errors import InputError
from ...configs.extras import extras_of
from ...runtime.arrays import Mask
from ...runtime.backends.open import open_session
from ...runtime.predictors.encoder import FrameEncoder
from ...runtime.predictors.image import ImagePredictor
from ...runtime.predictors.object_state import ObjectState
from ...runtime.predictors.pretrained import pretrained_bundle
from ...runtime.session import Session
from ...runtime.tracking.encoded import EncodedFrame
from .outlines import edges_of, mask_of_polygon, polygons_of

with extras_of("sam2rt in CVAT"):
    import cvat_sdk.auto_annotation as cvataa
    from cvat_sdk.masks import decode_mask, encode_mask
    from cvat_sdk.models import AttributeValRequest


@contextmanager
def _told() -> Iterator[None]:
    """Errors of ours as the one class whose text the agent hands on to who asked."""
    try:
        yield
    except InputError as error:
        raise cvataa.BadFunctionError(str(error)) from error


@dataclass
class TrackedShape:
    """What the agent keeps of a shape between frames."""

    type: str
    object: ObjectState


class CvatTracker:
    """A ``TrackingFunction``: masks, polygons and rectangles, each with a state of its own.

    A shape's first frame is its prompt, and masks are those of :class:`~sam2rt.ObjectState`. A
    polygon follows the largest part of the mask, a rectangle its edges. tolerance: pixels that a
    polygon may stray from the mask.
    """

    def __init__(self, session: Session, tolerance: float = 1.0) -> None:
        self._session, self._tolerance = session, real_number("tolerance", tolerance, 0)
        self._encoder = FrameEncoder(session.bundle, session=session)
        self.spec = cvataa.TrackingFunctionSpec(
            supported_shape_types=["mask", "polygon", "rectangle"]
        )

    def preprocess_image(self, context: Any, image: Any) -> EncodedFrame:
        """Encode a Pillow image, once for all shapes on it."""
        with _told():
            return self._encoder.encode(_pixels(image))

    def init_tracking_state(self, context: Any, pp_image: EncodedFrame, shape: Any) -> TrackedShape:
        """Prompt a new object with the shape, on the frame it lies on."""
        with _told():
            made = ObjectState(self._session.bundle, session=self._session)
            if shape.type == "rectangle":
                made.add_points(box=shape.points)
            elif shape.type == "polygon":
                made.add_mask(mask_of_polygon(shape.points, pp_image.size))
            elif shape.type == "mask":
                made.add_mask(_decoded(shape.points, pp_image.size))
            else:
                raise InputError(
                    f"a shape of type {shown(shape.type)}: expected mask, polygon or rectangle"
                )
            made.step(pp_image)
        return TrackedShape(shape.type, made)

    def track(self, context: Any, pp_image: EncodedFrame, state: TrackedShape) -> Any:
        """The shape on the next frame; None where the object is not seen."""
        with _told():
            mask = state.object.step(pp_image).masks[0]
        points = self._points(state.type, mask)
        return points and cvataa.TrackableShape(type=state.type, points=points)

    def _points(self, kind: str, mask: Mask) -> list[float] | None:
        edges = edges_of(mask)
        if edges is None or kind == "rectangle":
            return edges and list(edges)
        if kind == "mask":
            return list(encode_mask(mask))
        parts = polygons_of(mask, self._tolerance)
        return parts[0].ravel().tolist() if parts else None


class CvatInteractor:
    """An ``InteractionFunction``: points and a box on an image give the object's mask.

    One mask a request, that of :meth:`~sam2rt.ImagePredictor.predict` without multimask_output,
    with the predicted IoU as its confidence.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.spec = cvataa.InteractionFunctionSpec(
            min_pos_points=0, min_neg_points=0, min_bounding_boxes=0
        )

    def preprocess_image(self, context: Any, image: Any) -> ImagePredictor:
        """Encode a Pillow image: the agent keeps several, each with its own predictor."""
        with _told():
            made = ImagePredictor(self._session.bundle, session=self._session)
            made.set_image(_pixels(image))
        return made

    def detect(self, context: Any, pp_image: ImagePredictor, prompts: Any) -> list[Any]:
        """The object's mask, or nothing where no pixel belongs to it."""
        points = [*prompts.pos_points, *prompts.neg_points]
        labels = [1] * len(prompts.pos_points) + [0] * len(prompts.neg_points)
        box = prompts.bounding_box
        with _told():
            if not prompts.pos_points and box is None:
                raise InputError("no prompt: give a positive point, a box, or both")
            masks, ious, _ = pp_image.predict(
                points, labels, box=box and np.ravel(box), multimask_output=False
            )
        mask = np.asarray(masks[0], bool)
        if not mask.any():
            return []
        score = min(max(float(ious[0]), 0.0), 1.0)
        confidence = AttributeValRequest(
            spec_id=int(cvataa.InteractionResultAttributes.CONFIDENCE), value=f"{score:.4f}"
        )
        return [
            cvataa.InteractionResultShape(
                type="mask", points=encode_mask(mask), attributes=[confidence]
            )
        ]


_KINDS = ("tracker", "interactor")


def create(
    bundle: str = "",
    kind: str = "tracker",
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    tolerance: float = 1.0,
) -> CvatTracker | CvatInteractor:
    """The function that an agent runs; its command line gives parameters: ``-p NAME=TYPE:VALUE``.

    bundle: folder of a bundle, or a model's name. kind: tracker or interactor. Others as for
    predictors and :class:`CvatTracker`. Raises InputError for another kind, and as they do.
    """
    if kind not in _KINDS:
        raise InputError(f"kind is {shown(kind)}: expected tracker or interactor")
    if not bundle:
        raise InputError("no bundle is named: give '-p bundle=str:FOLDER'")
    session = open_session(pretrained_bundle(bundle), backend, device, threads)
    # the agent ends with its process, and so does the session
    return CvatTracker(session, tolerance) if kind == "tracker" else CvatInteractor(session)


def _pixels(image: Any) -> Any:
    """uint8 RGB [H, W, 3] of a Pillow image of any mode."""
    return np.asarray(image.convert("RGB"))


def _decoded(points: Sequence[float], size: tuple[int, int]) -> Mask:
    try:
        mask: Mask = decode_mask(points, image_width=size[1], image_height=size[0])
    except ValueError as error:
        raise InputError(f"the mask cannot be decoded ({error}): draw the shape again") from None
    return mask
