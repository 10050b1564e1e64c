"""A backend of your own: custom_backend.py BUNDLE IMAGE X Y MASK.png

All that must be filled in is `bundle` and `run`. This one opens the graphs with plain ONNX Runtime
and counts its calls; yours may send them to another library, a remote machine or an accelerator.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

import sam2rt
from sam2rt.runtime.session import Session, check_inputs


class CountingSession(Session):
    """The separate graphs on ONNX Runtime's CPU provider."""

    def __init__(self, bundle: sam2rt.Bundle) -> None:
        self.bundle = bundle
        self.calls: Counter[str] = Counter()
        self._opened: dict[str, onnxruntime.InferenceSession] = {}

    def run(
        self, graph: str, inputs: Mapping[str, np.ndarray], into: Any = None
    ) -> dict[str, np.ndarray]:
        spec = self.bundle.graphs[graph].spec
        if graph not in self._opened:
            path = str(self.bundle.graph_path(graph))
            self._opened[graph] = onnxruntime.InferenceSession(path)
        self.calls[graph] += 1
        names = [tensor.name for tensor in spec.outputs]
        # names, dtypes and shapes are checked here and trusted behind it
        outputs = self._opened[graph].run(names, check_inputs(spec, inputs))
        return dict(zip(names, outputs, strict=True))


def main(folder: str, picture: str, x: str, y: str, out: str) -> None:
    bundle = sam2rt.Bundle.load(folder)
    with CountingSession(bundle) as session:
        image = sam2rt.ImagePredictor(bundle, session=session)
        image.set_image(np.asarray(Image.open(picture).convert("RGB")))
        masks, ious, _ = image.predict([[float(x), float(y)]], [1])
        Image.fromarray(masks[ious.argmax()] * np.uint8(255)).save(out)
    print(", ".join(f"{name} {count}" for name, count in sorted(session.calls.items())))


if __name__ == "__main__":
    main(*sys.argv[1:])
