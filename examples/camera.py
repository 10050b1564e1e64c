"""Send a camera, or a video in its place, to a server and print where the object is.

    sam2rt serve bundle
    python examples/camera.py --point 320,240

Needs opencv-python-headless and websockets, which the extra `serve` brings. The server drops frames
that come faster than it tracks; the masks are COCO's run lengths.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import Any

import cv2
from websockets.sync.client import connect


def jpegs(source: str, most: int | None) -> Iterator[bytes]:
    """The frames of a camera (its number) or of a video (its path) as JPEG."""
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not camera.isOpened():
        raise SystemExit(f"cannot open {source}: expected the number of a camera, or a video")
    for _ in itertools.count() if most is None else range(most):
        there, frame = camera.read()
        if not there:
            break
        _, content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])
        yield content.tobytes()
    camera.release()


def shown(result: dict[str, Any]) -> str:
    """A frame's result as a line."""
    objects = [
        f"object {item['object']}: {item['area']} pixels, score {item['score']:.1f}"
        for item in result["objects"]
    ]
    dropped = f" ({result['dropped']} dropped)" if result["dropped"] else ""
    return f"frame {result['frame']}{dropped}: {', '.join(objects)}"


def main() -> None:
    """One click, then frames until the source ends or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", default="0", help="number of a camera, or a video")
    parser.add_argument("--point", default="320,240", help="x,y in pixels of the first frame")
    parser.add_argument("--frames", type=int, help="stop after so many")
    parser.add_argument("--server", default="ws://127.0.0.1:8765")
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    x, y = (float(value) for value in options.point.split(","))
    address = f"{options.server}/v1/live?format=json&token={options.token}"
    with connect(address, compression=None) as server:
        print("{model} at {image_size} pixels".format(**json.loads(server.recv())))
        server.send(json.dumps({"prompt": {"object": 1, "points": [[x, y]], "labels": [1]}}))
        try:
            for content in jpegs(options.source, options.frames):
                server.send(content)
                result = json.loads(server.recv())
                print(result["error"] if "error" in result else shown(result), flush=True)
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
