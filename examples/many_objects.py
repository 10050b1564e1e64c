"""Objects that come and go: many_objects.py BUNDLE VIDEO IDS.png LEAVE_AT OUT.json

IDS.png marks the objects of the first frame, one id each. From frame LEAVE_AT on, the smallest is
followed no longer; the others are not touched by that. OUT.json holds COCO run lengths.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import sam2rt


def main(folder: str, source: str, ids: str, leave_at: str, out: str) -> None:
    marked = np.asarray(Image.open(ids))
    areas = {int(i): int(n) for i, n in zip(*np.unique(marked, return_counts=True), strict=True)}
    areas.pop(0, None)
    with sam2rt.StreamTracker(sam2rt.Bundle.load(folder)) as tracker:
        for obj_id in areas:
            tracker.add_mask(obj_id, marked == obj_id)
        frames = []
        for frame in sam2rt.open_frames(source):
            if tracker.frame_idx == int(leave_at):
                tracker.remove_object(min(areas, key=lambda obj_id: areas[obj_id]))
            result = tracker.step(frame)
            # one mask at a time is made at the frame's size
            rles = dict(zip(map(str, result.obj_ids), result.rles(), strict=True))
            frames.append({"frame": result.frame_idx, "masks": rles})
    Path(out).write_text(json.dumps(frames), encoding="utf-8")
    print(f"{len(areas)} objects, {len(frames)} frames in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
