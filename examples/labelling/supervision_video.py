"""Draw a tracked object with supervision: supervision_video.py BUNDLE VIDEO X Y FOLDER

The click lies on the first frame. FOLDER gets a picture (PNG) a frame.
"""

import sys
from pathlib import Path

import supervision as sv
from PIL import Image

import sam2rt


def main(folder: str, video: str, x: str, y: str, out: str) -> None:
    Path(out).mkdir(parents=True, exist_ok=True)
    by_track = sv.ColorLookup.TRACK
    tools = (sv.MaskAnnotator(color_lookup=by_track), sv.BoxAnnotator(color_lookup=by_track))
    with sam2rt.StreamTracker(sam2rt.Bundle.load(folder)) as tracker:
        tracker.add_points(obj_id=1, points=[[float(x), float(y)]], labels=[1])
        for number, frame in enumerate(sam2rt.open_frames(video)):
            found = tracker.step(frame).to_supervision()
            picture = frame.copy()
            for tool in tools:
                picture = tool.annotate(picture, found)
            Image.fromarray(picture).save(Path(out) / f"{number:05d}.png")
            print(f"frame {number}: {found.area.astype(int).sum()} pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
