"""Two objects through a video, one corrected later: video.py BUNDLE VIDEO PROMPTS.json MASKS.npz

PROMPTS.json is a list of {"frame": 0, "object": 1, "points": [[x, y], ...], "labels": [1, ...]} or
with "box" instead, in the order in which a person would give them. Prompts on a later frame correct
the object from there on.
"""

import json
import sys
from pathlib import Path

import numpy as np

import sam2rt


def main(folder: str, source: str, prompts: str, out: str) -> None:
    with sam2rt.VideoPredictor(sam2rt.Bundle.load(folder)) as video:
        state = video.init_state(source)  # frames are read when they are needed
        for given in json.loads(Path(prompts).read_text("utf-8")):
            what = {name: given[name] for name in ("points", "labels", "box") if name in given}
            video.add_new_points_or_box(state, given["frame"], given["object"], **what)
        found = {}
        for frame, obj_ids, logits in video.propagate_in_video(state):
            for obj_id, logit in zip(obj_ids, logits, strict=True):
                found[f"{obj_id}/{frame:05d}"] = logit[0] > 0
    np.savez_compressed(out, **found)
    print(f"{len(found)} masks in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
