"""Track an object through a video on a server, with nothing but Python's own library.

    sam2rt serve bundle
    python examples/client.py clip.mp4 --point 210,350 -o masks.json

Without a video the server's sample is used.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path
from typing import IO, Any


class Client:
    """The server at an address; token: what it was started with, if with any."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def open(self, method: str, path: str, body: Any = None) -> IO[bytes]:
        """An answer to read from; bytes are sent as they are, anything else as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path, content, self._headers, method=method
        )
        try:
            answer: IO[bytes] = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            # each error of the server is one line
            raise SystemExit(f"{error.code}: {json.load(error)['error']}") from None
        return answer

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The value of an answer."""
        with self.open(method, path, body) as answer:
            content = answer.read()
        return json.loads(content) if content else None


def main() -> None:
    """Upload, click, track, download."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--point", default="128,128", help="x,y in pixels of frame 0")
    parser.add_argument("--server", default="http://127.0.0.1:8765")
    parser.add_argument("--token")
    parser.add_argument("-o", "--output", type=Path, default=Path("masks.json"))
    options = parser.parse_args()
    client = Client(options.server, options.token)

    if options.video is None:
        source = {"sample": "shapes"}
    else:
        content = options.video.read_bytes()
        source = {"media": client.json("POST", "/v1/media?name=clip", content)["media"]}
    at = f"/v1/sessions/{client.json('POST', '/v1/sessions', source)['session']}"

    point = [float(value) for value in options.point.split(",")]
    prompt = {"frame": 0, "object": 1, "points": [point], "labels": [1]}
    found = client.json("POST", f"{at}/prompts", prompt)
    print(f"frame 0: {found['objects'][0]['area']} pixels")

    with client.open("POST", f"{at}/propagate", {}) as lines:
        for line in lines:
            masks = json.loads(line)
            if "end" in masks:
                print(f"{masks['end']}: {masks['done']} of {masks['total']} frames")
            else:
                areas = [item["area"] for item in masks["objects"]]
                print(f"frame {masks['frame']}: {areas} pixels")

    with client.open("GET", f"{at}/masks.json") as answer:
        options.output.write_bytes(answer.read())
    print(f"written to {options.output}")
    client.json("DELETE", at)


if __name__ == "__main__":
    main()
