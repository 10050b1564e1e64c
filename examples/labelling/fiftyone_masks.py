"""The mask of a box as FiftyOne stores it: fiftyone_masks.py BUNDLE IMAGE X0 Y0 X1 Y1 OUT.png"""

import sys

import fiftyone as fo
import numpy as np
from PIL import Image

from sam2rt.serving.labelling.fiftyone_model import model


def main(bundle: str, picture: str, *rest: str) -> None:
    *box, out = rest
    rgb = np.asarray(Image.open(picture).convert("RGB"))
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = map(float, box)
    # FiftyOne's boxes are shares of the picture: left, top, width, height
    shares = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
    sample = fo.Sample(filepath=picture)
    sample["boxes"] = fo.Detections(detections=[fo.Detection(label="it", bounding_box=shares)])

    masks = model(bundle)
    # what dataset.apply_model(masks, prompt_field="boxes") does of each sample
    masks.needs_fields = {"prompt_field": "boxes"}
    for found in masks.predict(rgb, sample=sample).detections:
        whole = found.to_segmentation(frame_size=(width, height)).mask
        print(f"{np.count_nonzero(whole)} pixels, predicted IoU {found.confidence:.3f}")
        Image.fromarray(whole > 0).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
