"""Masks for a detector's boxes: boxes_from_detector.py BUNDLE IMAGE BOXES.json IDS.png

BOXES.json is a list of [x0, y0, x1, y1] in pixels, as any detector gives them (for instance
`model(image)[0].boxes.xyxy.tolist()`). IDS.png holds k where the k-th box's object is, 0 elsewhere.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import sam2rt


def main(folder: str, picture: str, detections: str, out: str) -> None:
    boxes = np.asarray(json.loads(Path(detections).read_text("utf-8")), np.float32).reshape(-1, 4)
    rgb = np.asarray(Image.open(picture).convert("RGB"))
    ids = np.zeros(rgb.shape[:2], np.uint8)
    if len(boxes):
        with sam2rt.ImagePredictor(sam2rt.Bundle.load(folder)) as image:
            image.set_image(rgb)
            masks, ious, _ = image.predict(box=boxes, multimask_output=False)
        # one box gives [1, H, W], several [boxes, 1, H, W]; the surest mask wins a shared pixel
        masks, ious = masks.reshape(-1, *ids.shape), ious.reshape(-1)
        for k in np.argsort(ious):
            ids[masks[k]] = k + 1
    Image.fromarray(ids).save(out)
    print(f"{len(boxes)} boxes, {np.unique(ids[ids > 0]).size} objects in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
