"""A click on an image, asked as X-AnyLabeling asks, with nothing but Python's own library.

sam2rt serve bundle --port 8000 --api xanylabeling
python examples/labelling/xanylabeling_client.py image.png 210 350
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def asked(server: str, token: str | None, path: str, body: Any = None) -> Any:
    """The data of an answer; token: what the server was started with, if with any."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Token": token} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(server + path, content, headers)) as got:
            return json.load(got)["data"]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{error.code}: {json.load(error)['error']['message']}") from None


def main() -> None:
    """Print the polygons of a click."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("x", type=float)
    parser.add_argument("y", type=float)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--token")
    options = parser.parse_args()

    known = asked(options.server, options.token, "/v1/models")
    print(", ".join(model["display_name"] for model in known.values()))
    content = base64.b64encode(options.image.read_bytes()).decode()
    click = {"type": "point", "data": [options.x, options.y], "label": 1}
    body = {
        "model": "sam2rt",
        "image": f"data:image/png;base64,{content}",
        "params": {"marks": [click], "epsilon_factor": 0.001},
    }
    for shape in asked(options.server, options.token, "/v1/predict", body)["shapes"]:
        print(f"{shape['shape_type']} of {len(shape['points'])} points, {shape['score']:.3f}")
        print(json.dumps(shape["points"]))


if __name__ == "__main__":
    main()
