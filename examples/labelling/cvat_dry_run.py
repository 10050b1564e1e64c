"""What CVAT gets of a folder of frames: cvat_dry_run.py BUNDLE FRAMES X0 Y0 X1 Y1 OUT

The box lies on the first frame. OUT gets a mask (PNG) for each later frame that shows the object.
"""

import sys
from pathlib import Path

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk.masks import decode_mask
from PIL import Image

from sam2rt.serving.labelling import cvat


def main(bundle: str, folder: str, *rest: str) -> None:
    *box, out = rest
    (x0, y0, x1, y1), made = map(float, box), Path(out)
    made.mkdir(parents=True, exist_ok=True)
    first, *later = [Image.open(path) for path in sorted(Path(folder).iterdir())]

    # a box on an image: what a click on "AI tools" asks for
    interactor = cvat.create(bundle, kind="interactor")
    prompts = Prompts([], [], ((x0, y0), (x1, y1)))
    (mask,) = interactor.detect(None, interactor.preprocess_image(None, first), prompts)

    # the mask followed through the frames: what the tracker is asked for
    tracker = cvat.create(bundle)
    shape = cvataa.TrackableShape(type="mask", points=mask.points)
    state = tracker.init_tracking_state(None, tracker.preprocess_image(None, first), shape)
    for number, frame in enumerate(later, 1):
        found = tracker.track(None, tracker.preprocess_image(None, frame), state)
        if found is None:
            print(f"frame {number}: not seen")
            continue
        pixels = decode_mask(found.points, image_width=frame.width, image_height=frame.height)
        Image.fromarray(pixels).save(made / f"{number:05d}.png")
        print(f"frame {number}: {pixels.sum()} pixels")


class Prompts(cvataa.InteractionPrompts):
    """The prompts of one request."""

    pos_points = neg_points = bounding_box = None

    def __init__(self, positive: list, negative: list, box: tuple | None) -> None:
        self.pos_points, self.neg_points, self.bounding_box = positive, negative, box


if __name__ == "__main__":
    main(*sys.argv[1:])
