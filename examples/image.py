"""One click and its three masks, then a refinement: image.py BUNDLE IMAGE X Y OUT.png [NOT_X NOT_Y]

The second click, if given, lies on what is not meant.
"""

import sys

import numpy as np
from PIL import Image

import sam2rt


def main(folder: str, picture: str, x: str, y: str, out: str, *background: str) -> None:
    rgb = np.asarray(Image.open(picture).convert("RGB"))
    with sam2rt.ImagePredictor(sam2rt.Bundle.load(folder)) as image:
        image.set_image(rgb)  # the expensive part, once an image
        masks, ious, low_res = image.predict([[float(x), float(y)]], [1])
        for mask, iou in zip(masks, ious, strict=True):
            print(f"{mask.sum()} pixels, predicted IoU {iou:.3f}")
        best = int(ious.argmax())
        mask = masks[best]
        if background:
            clicks = [[float(x), float(y)], [float(background[0]), float(background[1])]]
            # the best mask goes back in as logits, with both clicks
            masks, ious, _ = image.predict(
                clicks, [1, 0], mask_input=low_res[best][None], multimask_output=False
            )
            mask = masks[0]
    Image.fromarray(mask * np.uint8(255)).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
