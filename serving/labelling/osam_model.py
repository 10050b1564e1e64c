"""osam, the models of labelme: a bundle under a name that labelme lists.

``register("bundle")`` before labelme starts; interfaces: ``osam.types.Model``, ``osam.apis``.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ...configs.bundle import Bundle
from ...configs.checks import shown
from ...configs.errors import InputError
from ...configs.extras import extras_of
from ...runtime.backends.open import open_session
from ...runtime.predictors.image import ImagePredictor
from ...runtime.predictors.pretrained import pretrained_bundle
from ...runtime.tracking.encoded import EncodedFrame
from ...runtime.tracking.tracker import Features
from .outlines import edges_of

with extras_of("sam2rt in labelme"):
    import osam.apis
    from osam import types

#: what labelme's list calls balanced; the first of a name counts
_NAME = "sam2:latest"


class OsamModel(types.Model):  # type: ignore[misc]
    """A bundle as a model of osam; :func:`register` makes a subclass with its name and bundle.

    Embeddings hold all that the decoder needs, so they may be sent and kept as osam's own.
    Threads may not share an object.
    """

    metadata = types.ModelMetadata(
        license_name="Apache License 2.0",
        license_url="https://github.com/facebookresearch/sam2/blob/main/LICENSE",
        source_url="https://github.com/sam2rt/sam2rt",
    )
    _bundle: Bundle
    _options: tuple[str, str, int | None]

    def __init__(self) -> None:
        self._inference_sessions: dict[str, Any] = {}
        self._session = open_session(self._bundle, *self._options)

    @classmethod
    def pull(cls, progress: Any = None, cancel: Any = None, timeout: Any = None) -> None:
        """Nothing is fetched: the bundle is there."""

    @classmethod
    def remove(cls) -> None:
        """InputError: the bundle is the user's."""
        raise InputError(f"{cls._bundle.path} is a bundle of yours: remove its folder yourself")

    @classmethod
    def get_id(cls) -> str:
        """The beginning of the bundle's digest."""
        return cls._bundle.digest[:12]

    @classmethod
    def get_size(cls) -> int:
        """Bytes of the bundle's files."""
        return sum(file.stat().st_size for file in cls._bundle.path.rglob("*") if file.is_file())

    @classmethod
    def get_modified_at(cls) -> float:
        """When the bundle was written, in seconds since 1970."""
        return os.stat(cls._bundle.path).st_mtime

    def encode_image(self, image: Any) -> Any:
        """Encode an image: uint8 RGB [H, W, 3], grey or RGBA. FrameError."""
        with self._predictor() as predictor:
            predictor.set_image(image)
            encoded = predictor.encoded_image
        found = encoded.features
        finer = (found.high_res_0, found.high_res_1, found.image_embed)
        return types.ImageEmbedding(
            original_height=encoded.size[0],
            original_width=encoded.size[1],
            embedding=np.asarray(found.prompt_embed[0]),
            extra_features=[np.asarray(plane[0]) for plane in finer],
        )

    def generate(self, request: Any) -> Any:
        """The mask of the request's points; none where no pixel belongs to the object.

        Labels: 0 and 1, and 2 and 3 for a box's corners. InputError for texts, which SAM 2 does
        not know, and for a request without points or image.
        """
        embedding = request.image_embedding
        if embedding is None:
            if request.image is None:
                raise InputError("the request has no image: give image or image_embedding")
            embedding = self.encode_image(request.image)
        prompt = request.prompt
        if prompt is None or prompt.points is None:
            raise InputError("the request has no points: SAM 2 takes points and boxes, not words")
        with self._predictor() as predictor:
            predictor.set_encoded(self._encoded(embedding))
            masks, ious, _ = predictor.predict(
                prompt.points, prompt.point_labels, multimask_output=False
            )
        found = _annotations(np.asarray(masks[0], bool), float(ious[0]))
        return types.GenerateResponse(model=self.name, image_embedding=embedding, annotations=found)

    def _predictor(self) -> ImagePredictor:
        return ImagePredictor(self._bundle, session=self._session)

    def _encoded(self, embedding: Any) -> EncodedFrame:
        planes = [embedding.embedding, *embedding.extra_features]
        if len(planes) != 4:
            raise InputError("the embedding is of another model: encode the image with this one")
        prompt, first, second, image = (np.asarray(plane)[None] for plane in planes)
        size = embedding.original_height, embedding.original_width
        return EncodedFrame(size, Features(image, prompt, first, second), self._bundle)


def _annotations(mask: Any, score: float) -> list[Any]:
    """The mask, cut to its box, whose last column and row are inside."""
    edges = edges_of(mask)
    if edges is None:
        return []
    x0, y0, x1, y1 = (int(edge) for edge in edges)
    box = types.BoundingBox(xmin=x0, ymin=y0, xmax=x1 - 1, ymax=y1 - 1)
    return [types.Annotation(mask=mask[y0:y1, x0:x1], bounding_box=box, score=score)]


def register(
    bundle: str,
    name: str = _NAME,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
) -> type[OsamModel]:
    """Let osam know a bundle under a name, in place of a model of that name; gives its class.

    bundle: folder of a bundle, or a model's name. name: as ``family:size``; labelme lists those of
    osam, such as ``sam2:latest``. Others as for predictors. InputError for another form of a name.
    """
    if not isinstance(name, str) or not all(name.partition(":")):
        raise InputError(f"name is {shown(name)}: expected one such as {_NAME}")
    fields = {
        "name": name,
        "_bundle": pretrained_bundle(bundle),
        "_options": (backend, device, threads),
        "_blobs": {},
    }
    made = type("Sam2rtOsamModel", (OsamModel,), fields)
    osam.apis.registered_model_types.insert(0, made)
    return made
