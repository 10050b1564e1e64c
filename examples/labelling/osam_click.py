"""A click on an image through osam, as labelme asks: osam_click.py BUNDLE IMAGE X Y OUT.png"""

import sys

import numpy as np
import osam
from PIL import Image

from sam2rt.serving.labelling.osam_model import register


def main(bundle: str, picture: str, x: str, y: str, out: str) -> None:
    register(bundle, "sam2:latest")
    rgb = np.asarray(Image.open(picture).convert("RGB"))
    prompt = osam.types.Prompt(points=np.array([[float(x), float(y)]]), point_labels=np.array([1]))
    request = osam.types.GenerateRequest(model="sam2:latest", image=rgb, prompt=prompt)
    mask = np.zeros(rgb.shape[:2], bool)
    for found in osam.apis.generate(request).annotations:
        box = found.bounding_box
        mask[box.ymin : box.ymax + 1, box.xmin : box.xmax + 1] = found.mask
        print(f"{mask.sum()} pixels, predicted IoU {found.score:.3f}")
    Image.fromarray(mask).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
