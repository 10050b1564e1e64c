"""Array types with a meaning: the dtype in the type, what it stands for here.

A session on a GPU gives tensors there in an array's place (``gpu.tensor.DeviceTensor``), which
numpy downloads when it takes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import NotFiniteError

#: any dtype: the signature says which
Array = NDArray[Any]

#: an image or a frame of a video, RGB in 0..255: [H, W, 3], or [T, H, W, 3]
Frame = NDArray[np.uint8]
#: the model's input: normalised planes R, G, B of model pixels, [3, S, S] or [B, 3, S, S]
Pixels = NDArray[np.float32]

#: where the object is, or the objects are: [H, W] or [..., H, W]
Mask = NDArray[np.bool_]
#: what the mask decoder says of each pixel, above the threshold (0) is mask: [..., h, w]
Logits = NDArray[np.float32]
#: a mask prompt at the model's size, 0 or 1: [S, S]
MaskPrompt = NDArray[np.float32]

#: one number an object or mask, [N]: predicted IoU in 0..1, or an object score, > 0 for present
Scores = NDArray[np.float32]
#: object pointers, [..., C]
Pointers = NDArray[np.float32]
#: feature maps of frames or objects, [..., C, h, w]
Embedding = NDArray[np.float32]
#: x and y of points, [..., 2]; the signature says pixels of what
Coordinates = NDArray[np.float32]


#: what libraries raise for what is no array, or is one somewhere that numpy cannot read
NO_ARRAY = (TypeError, ValueError, RuntimeError, AttributeError)


def host_array(values: Any) -> Array:
    """What a caller gave as a numpy array; tensors of torch wherever they lie, and with gradients.

    Raises what the library raises for what is no array, such as TypeError or RuntimeError.
    """
    if hasattr(type(values), "detach") and hasattr(type(values), "cpu"):
        values = values.detach().cpu()
    return np.asarray(values)


def lies_on_gpu(array: Any) -> bool:
    """Whether an array has ``__cuda_array_interface__``.

    Tensors of ours say so by their class: asking for the interface describes their memory anew.
    """
    if isinstance(array, np.ndarray):
        return False
    own = getattr(type(array), "always_on_gpu", False)
    return bool(own) or hasattr(array, "__cuda_array_interface__")


def check_numbers(where: str, **outputs: Any) -> None:
    """Refuse outputs of a graph, arrays or floats by name, that are not finite throughout.

    A NaN is above no threshold: it would pass for an empty mask. Tensors on a GPU stay there and
    are not looked at. where: what the error names, such as "frame 3, object 1". Raises
    NotFiniteError.
    """
    for name, array in outputs.items():
        if isinstance(array, float):
            finite = math.isfinite(array)
        else:
            finite = array is None or lies_on_gpu(array) or bool(np.isfinite(array).all())
        if not finite:
            raise NotFiniteError(
                f"{where}: the graphs gave NaN or infinity in {name}, expected numbers: check the "
                "bundle with 'sam2rt verify', or export it as fp32"
            )
