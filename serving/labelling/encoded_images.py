"""Images that stay encoded between the clicks on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from ...runtime.media.images import readable_image
from ...runtime.packages import pillow_image, pillow_ops
from ...runtime.predictors.image import ImagePredictor
from ...runtime.session import Session

#: images that are kept
_MOST = 4


class EncodedImages:
    """Predictors of the images that were clicked last; all calls in the thread of the model."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._images: OrderedDict[Hashable, ImagePredictor] = OrderedDict()

    def of(self, key: Hashable, load: Callable[[], Any]) -> ImagePredictor:
        """The predictor of the image of that key, which `load` gives where it is new."""
        found = self._images.pop(key, None)
        if found is None:
            found = ImagePredictor(self._session.bundle, session=self._session)
            found.set_image(load())
        self._images[key] = found
        while len(self._images) > _MOST:
            self._images.popitem(last=False)
        return found


def upright(path: Path) -> Any:
    """An image file as a Pillow image, turned as browsers turn it. FrameError."""
    with readable_image(path), pillow_image().open(path) as image:
        return pillow_ops().exif_transpose(image).convert("RGB")
