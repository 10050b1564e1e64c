"""Label Studio: the class of an ML backend, for clicks on images and boxes through videos.

``label_studio_ml.api.init_app(backend_class("bundle"))`` is the application that Label Studio asks.
Interfaces: ``label_studio_ml`` of its repository, ``label_studio_sdk``.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ...configs.checks import shown_line, whole_number
from ...configs.errors import InputError, MissingToolError
from ...runtime.arrays import Mask
from ...runtime.backends.open import open_session
from ...runtime.predictors.pretrained import pretrained_bundle
from ..sessions.model import Model
from .encoded_images import EncodedImages, upright
from .label_studio_regions import ImagePrompt, brush_region, image_prompts
from .label_studio_video import tracked_regions

try:
    from label_studio_ml.model import LabelStudioMLBase
    from label_studio_ml.response import ModelResponse
    from label_studio_sdk.label_interface.objects import PredictionValue
except ImportError as error:
    raise MissingToolError(
        f"sam2rt in Label Studio needs its ML backend of 2024 or later ({shown_line(str(error))}): "
        "pip install git+https://github.com/HumanSignal/label-studio-ml-backend"
    ) from None

#: each kind of task: the control tag of its config, and the tag of what is labelled
_IMAGE, _VIDEO = ("BrushLabels", "Image"), ("VideoRectangle", "Video")


class LabelStudioModel:
    """What outlives a request: the bundle, the one thread that runs it, encoded images.

    The session is opened by the first request: servers fork after they have loaded the class.
    Clicks go before frames of videos.
    """

    def __init__(
        self, bundle: str, backend: str, device: str, threads: int | None, most_frames: int
    ) -> None:
        self.bundle = pretrained_bundle(bundle)
        self.most_frames = whole_number("most_frames", most_frames, 1)
        self._session = open_session(self.bundle, backend, device, threads)
        self._model: Model | None = None
        self._opening = threading.Lock()
        self._images = EncodedImages(self._session)

    @property
    def model(self) -> Model:
        """The model, with its thread in this process."""
        with self._opening:
            if self._model is None:
                self._model = Model(self._session)
            return self._model

    def masks(self, path: Path, prompts: list[ImagePrompt]) -> list[tuple[Mask, float]]:
        """Mask [H, W] bool and predicted IoU of each prompt on an image file."""

        def answers() -> list[tuple[Mask, float]]:
            key = str(path), path.stat().st_mtime_ns
            image = self._images.of(key, lambda: upright(path))
            made = [image.predict(**p.asked(), multimask_output=False) for p in prompts]
            return [(masks[0], float(ious[0])) for masks, ious, _ in made]

        return self.model.run(answers, urgent=True)


class LabelStudioBackend(LabelStudioMLBase):  # type: ignore[misc]
    """Masks for clicks where the config has BrushLabels, boxes where it has VideoRectangle.

    A request without a context, such as one for predictions of a whole project, is answered with
    none: there is nothing to segment without a click. What went wrong is the answer's one line.
    """

    engine: LabelStudioModel

    def setup(self) -> None:
        """Name the version that predictions carry."""
        bundle = self.engine.bundle
        self.set("model_version", f"{bundle.model.name} {bundle.digest[:8]}")

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """A prediction with a region for each object of the context; its task is the first one."""
        regions = (context or {}).get("result") or []
        if not tasks or not regions:
            return ModelResponse(predictions=[])
        for (control, kind), answer in ((_IMAGE, self._on_image), (_VIDEO, self._on_video)):
            try:
                name, to_name, value = self.get_first_tag_occurence(control, kind)
            except ValueError:
                continue
            path = Path(self.get_local_path(tasks[0]["data"][value], task_id=tasks[0].get("id")))
            found = answer(path, regions, name, to_name)
            scores = [region["score"] for region in found if "score" in region]
            score = sum(scores) / len(scores) if scores else None
            return ModelResponse(predictions=[PredictionValue(result=found, score=score)])
        raise InputError(
            "the labelling config has no BrushLabels on an Image and no VideoRectangle on a Video: "
            "add the one that fits"
        )

    def _on_image(
        self, path: Path, regions: list[dict[str, Any]], name: str, to_name: str
    ) -> list[dict[str, Any]]:
        prompts = image_prompts(regions)
        answers = self.engine.masks(path, prompts) if prompts else []
        return [
            brush_region(mask, score, prompt, name, to_name)
            for prompt, (mask, score) in zip(prompts, answers, strict=True)
            if mask.any()
        ]

    def _on_video(
        self, path: Path, regions: list[dict[str, Any]], name: str, to_name: str
    ) -> list[dict[str, Any]]:
        return tracked_regions(self.engine.model, path, regions, self.engine.most_frames)


def backend_class(
    bundle: str,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    most_frames: int = 1000,
) -> type[LabelStudioBackend]:
    """The class for ``label_studio_ml.api.init_app``, which makes an object of it a request.

    bundle: folder of a bundle, or a model's name. most_frames: how far boxes are followed behind
    the last one drawn; the video predictor remembers each frame. Others as for predictors.
    """
    engine = LabelStudioModel(bundle, backend, device, threads, most_frames)
    return type("Sam2rtBackend", (LabelStudioBackend,), {"engine": engine})
