"""A live stream: stream.py BUNDLE SOURCE X Y [FRAMES]

SOURCE is the number of a camera (0 is the first), an address such as rtsp://..., or a file. The
object that lies at X, Y on the first frame is followed; memory stays the same however long it runs.
"""

import sys
import time
from collections.abc import Iterator

import numpy as np

import sam2rt


def frames_of(source: str) -> Iterator[np.ndarray]:
    """RGB frames of a camera, an address or a file."""
    if not source.isdigit():
        yield from sam2rt.open_frames(source)
        return
    import cv2

    camera = cv2.VideoCapture(int(source))
    try:
        while True:
            read, bgr = camera.read()
            if not read:
                return
            yield bgr[..., ::-1]  # OpenCV gives BGR
    finally:
        camera.release()


def main(folder: str, source: str, x: str, y: str, most: str = "0") -> None:
    with sam2rt.StreamTracker(sam2rt.Bundle.load(folder)) as tracker:
        tracker.add_points(obj_id=1, points=[[float(x), float(y)]], labels=[1])
        for frame in frames_of(source):
            started = time.perf_counter()
            result = tracker.step(frame)
            seconds = time.perf_counter() - started
            rows, columns = np.nonzero(result.masks[0])
            if rows.size:
                where = f"at {columns.mean():.0f},{rows.mean():.0f}, {rows.size} pixels"
            else:
                where = "not in sight"
            print(f"frame {result.frame_idx}: {where} ({1 / seconds:.1f} frames a second)")
            if result.frame_idx + 1 == int(most):
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
