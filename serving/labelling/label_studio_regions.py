"""Regions of Label Studio's annotations: prompts out of them on images, brush masks into them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np

from ...configs.checks import real_number, shown
from ...configs.errors import InputError
from ...runtime.arrays import Mask

_CLICK, _BOX = "keypointlabels", "rectanglelabels"


@dataclass
class ImagePrompt:
    """Clicks and a box of one object on an image, as fractions 0..1 of its sides.

    size: (height, width) that the browser saw.
    """

    label: str
    size: tuple[int, int]
    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None

    def asked(self) -> dict[str, Any]:
        """As arguments of :meth:`~sam2rt.ImagePredictor.predict`."""
        return {
            "point_coords": self.points, "point_labels": self.labels, "box": self.box,
            "normalize_coords": False,
        }  # fmt: skip


def image_prompts(regions: list[dict[str, Any]]) -> list[ImagePrompt]:
    """The prompts of a request's context: clicks and a box of one label are one object.

    Several boxes of a label are an object each, and then no click may have that label: nobody could
    say whose it is. Regions of other types are left out. InputError, also for broken regions.
    """
    clicks: dict[str, ImagePrompt] = {}
    boxes: dict[str, list[ImagePrompt]] = {}
    for region in regions:
        kind = region.get("type")
        if kind not in (_CLICK, _BOX):
            continue
        try:
            label = str(region["value"][kind][0])
            size = int(region["original_height"]), int(region["original_width"])
            if kind == _BOX:
                box = box_fractions(region["value"])
                boxes.setdefault(label, []).append(ImagePrompt(label, size, box=box))
            else:
                prompt = clicks.setdefault(label, ImagePrompt(label, size))
                prompt.points.append(_share(region["value"], "x", "y"))
                # bool of "0" would be True
                prompt.labels.append(int(region.get("is_positive", 1)))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise _broken(region, error) from None
    labels = dict.fromkeys([*boxes, *clicks])
    return [p for name in labels for p in _joined(boxes.get(name, []), clicks.get(name))]


def _joined(boxes: list[ImagePrompt], clicked: ImagePrompt | None) -> list[ImagePrompt]:
    """The prompts of one label."""
    if not boxes:
        return [clicked] if clicked else []
    if clicked and len(boxes) > 1:
        raise InputError(
            f"{len(boxes)} boxes and clicks have the label {shown(clicked.label)}: give clicks "
            "with one box, or boxes alone"
        )
    if clicked:
        boxes[0].points, boxes[0].labels = clicked.points, clicked.labels
    return boxes


def box_fractions(value: dict[str, Any]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 as fractions of a box in percent. InputError for one that is turned."""
    if value.get("rotation"):
        raise InputError(f"a box is turned by {shown(value['rotation'])} degrees: draw it upright")
    (x, y), (width, height) = _share(value, "x", "y"), _share(value, "width", "height")
    return x, y, x + width, y + height


def _share(value: dict[str, Any], first: str, second: str) -> tuple[float, float]:
    return real_number(first, value[first]) / 100, real_number(second, value[second]) / 100


def _broken(region: dict[str, Any], error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"a region of the context ({shown(region)}) lacks {shown(error.args)}")


def brush_region(
    mask: Mask, score: float, prompt: ImagePrompt, name: str, to_name: str
) -> dict[str, Any]:
    """A region of Label Studio's own run lengths, as ``brush.decode_rle`` takes them.

    mask: [H, W] bool. name, to_name: tags of the labelling config. InputError where the image has
    another size than the browser saw.
    """
    from label_studio_sdk.converter import brush

    if mask.shape != prompt.size:
        (height, width), (seen_height, seen_width) = mask.shape, prompt.size
        raise InputError(
            f"the image is {width} x {height} pixels, in the browser {seen_width} x {seen_height}: "
            "expected one and the same image"
        )
    pixels = np.where(mask, np.uint8(255), np.uint8(0))
    return {
        "id": uuid4().hex[:10],
        "from_name": name,
        "to_name": to_name,
        "type": "brushlabels",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "score": score,
        "value": {
            "format": "rle",
            "rle": brush.mask2rle(pixels),
            "brushlabels": [prompt.label],
        },
    }
