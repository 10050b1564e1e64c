"""Tracks an object on a Triton server: a clip as a whole, or a folder of pictures one by one.

    pip install 'tritonclient[grpc]'
    python examples/triton_client.py clip.mp4 --point 210,350
    python examples/triton_client.py pictures --point 210,350

One line a frame is printed, as JSON, with the mask as COCO's compressed run lengths. The server's
models are written by `sam2rt triton BUNDLE -o REPOSITORY`.
"""

from __future__ import annotations

import argparse
import json
import queue
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc


class Stream:
    """A session on the server: one request a frame. `http` of tritonclient does as well."""

    def __init__(self, client: Any, api: Any = tritonclient.grpc, sequence: int = 0) -> None:
        self.client, self.api = client, api
        # an id that no other client has; a live one is refused
        self.sequence = sequence or secrets.randbits(63) | 1
        self.started = False

    def step(
        self, frame: bytes | np.ndarray | None, prompts: Any = None, end: bool = False
    ) -> dict[str, Any]:
        """Masks of a frame: a JPEG, PNG or WebP as bytes, or uint8 RGB [H, W, 3].

        Without a frame and with `end` the session ends.
        """
        inputs = []
        if isinstance(frame, np.ndarray):
            inputs.append(self._input("FRAME", frame, "UINT8"))
        elif frame is not None:
            inputs.append(self._input("ENCODED", np.array([frame], np.object_), "BYTES"))
        if prompts is not None:
            text = json.dumps(prompts).encode()
            inputs.append(self._input("PROMPTS", np.array([text], np.object_), "BYTES"))
        answer = self.client.infer(
            "sam2rt_stream",
            inputs,
            sequence_id=self.sequence,
            sequence_start=not self.started,
            sequence_end=end,
        )
        self.started = True
        return described(answer)

    def _input(self, name: str, values: np.ndarray, kind: str) -> Any:
        made = self.api.InferInput(name, list(values.shape), kind)
        made.set_data_from_numpy(values)
        return made


def described(answer: Any) -> dict[str, Any]:
    """A response as plain values."""
    height, width = answer.as_numpy("FRAME_SIZE").tolist()
    ids, scores, counts = (answer.as_numpy(name) for name in ("OBJECT_IDS", "SCORES", "RLE"))
    objects = [
        {
            "object": int(i),
            "score": float(s),
            "mask": {"size": [height, width], "counts": c.decode()},
        }
        for i, s, c in zip(ids, scores, counts, strict=True)
    ]
    return {"frame": int(answer.as_numpy("FRAME_INDEX")[0]), "objects": objects}


def track_clip(client: Any, clip: bytes, prompts: Any) -> Iterator[dict[str, Any]]:
    """Masks of a video's frames, as they are made; closing the iterator cancels the rest."""
    answers: queue.Queue[Any] = queue.Queue()
    inputs = []
    for name, content in (("CLIP", clip), ("PROMPTS", json.dumps(prompts).encode())):
        inputs.append(tritonclient.grpc.InferInput(name, [1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([content], np.object_))
    client.start_stream(lambda result, error: answers.put((result, error)))
    finished = False
    try:
        client.async_stream_infer("sam2rt_video", inputs, enable_empty_final_response=True)
        while True:
            result, error = answers.get()
            if error is not None:
                raise error
            if result.get_response().parameters["triton_final_response"].bool_param:
                finished = True
                return
            yield described(result)
    finally:
        client.stop_stream(cancel_requests=not finished)


def main() -> None:
    """Track and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a video, or a folder of pictures")
    parser.add_argument("--point", default="128,128", help="x,y in pixels of the first frame")
    parser.add_argument("--server", default="localhost:8001")
    options = parser.parse_args()
    point = [float(value) for value in options.point.split(",")]
    prompts = {"prompts": [{"object": 1, "points": [point], "labels": [1]}]}
    with tritonclient.grpc.InferenceServerClient(options.server) as client:
        try:
            if options.source.is_file():
                for answer in track_clip(client, options.source.read_bytes(), prompts):
                    print(json.dumps(answer))
                return
            stream = Stream(client)
            for path in sorted(options.source.iterdir()):
                first = prompts if not stream.started else None
                print(json.dumps(stream.step(path.read_bytes(), first)))
            stream.step(None, end=True)
        except tritonclient.grpc.InferenceServerException as error:
            # each error of the server is one line
            raise SystemExit(error.message()) from None


if __name__ == "__main__":
    main()
