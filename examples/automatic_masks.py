"""Everything in an image: automatic_masks.py BUNDLE IMAGE COCO.json [POINTS_A_SIDE]"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import sam2rt


def main(folder: str, picture: str, out: str, points: str = "32") -> None:
    rgb = np.asarray(Image.open(picture).convert("RGB"))
    generator = sam2rt.MaskGenerator(
        sam2rt.Bundle.load(folder), points_per_side=int(points), output_mode="coco_rle"
    )
    found = generator.generate(rgb)
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "segmentation": record["segmentation"],
            "bbox": record["bbox"],
            "area": record["area"],
            "score": record["predicted_iou"],
        }
        for number, record in enumerate(found, 1)
    ]
    height, width = rgb.shape[:2]
    document = {
        "images": [{"id": 1, "file_name": Path(picture).name, "height": height, "width": width}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": annotations,
    }
    Path(out).write_text(json.dumps(document), encoding="utf-8")
    print(f"{len(annotations)} masks in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
