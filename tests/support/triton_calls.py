"""Clients of a Triton server, run in the environment that has its library; prints JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from triton_client import Stream, track_clip

APIS = {"grpc": tritonclient.grpc, "http": tritonclient.http}
FRAME = np.zeros((96, 128, 3), np.uint8)
PROMPTS = {"prompts": [{"object": 1, "points": [[20, 42]], "labels": [1]}]}


class Server:
    """Both interfaces of the server."""

    def __init__(self, grpc: str, http: str) -> None:
        self._ports = {"grpc": grpc, "http": http}

    def stream(self, api: str, sequence: int = 0) -> Stream:
        """A stream with a connection of its own."""
        module = APIS[api]
        client = module.InferenceServerClient(f"127.0.0.1:{self._ports[api]}")
        return Stream(client, module, sequence)

    def clip(self, clip: str, prompts: Any) -> Any:
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{self._ports['grpc']}")
        return track_clip(client, Path(clip).read_bytes(), prompts)


def load(server: Server, clips: str) -> Any:
    """All clips of a file at once, each over gRPC and over HTTP, one request a frame."""
    frames = np.load(clips)

    def work(number: int, api: str) -> list[Any]:
        clip, prompts = frames[f"clip{number}"], json.loads(str(frames[f"prompts{number}"]))
        stream = server.stream(api)
        last = len(clip) - 1
        return [
            stream.step(frame, prompts if t == 0 else None, end=t == last)
            for t, frame in enumerate(clip)
        ]

    count = len(frames.files) // 2
    with ThreadPoolExecutor(2 * count) as pool:
        made = {
            (number, api): pool.submit(work, number, api) for number in range(count) for api in APIS
        }
        return {f"{api}{number}": each.result() for (number, api), each in made.items()}


def wrong(server: Server, api: str) -> Any:
    """What each wrong request is answered, by name; and the frame that a live session has then."""
    said: dict[str, Any] = {}

    def ask(name: str, stream: Stream, *given: Any, **named: Any) -> None:
        try:
            stream.step(*given, **named)
        except tritonclient.utils.InferenceServerException as error:
            said[name] = error.message()
        else:
            said[name] = None

    live = server.stream(api)
    live.step(FRAME, PROMPTS)
    ask("start on a live id", server.stream(api, live.sequence), FRAME)
    ask("other size", live, FRAME[:, :100].copy())
    ask("no frame", live, None)
    ask("no image", live, b"no image")
    ask("no JSON of prompts", live, FRAME, float("nan"))
    ask("unknown object", live, FRAME, {"remove": [7]})
    ask("two dimensions", live, np.zeros((96, 128), np.uint8))
    ask("four channels", live, np.zeros((96, 128, 4), np.uint8))
    kept, live._input = live._input, lambda name, values, kind: kept(name, values * 1.0, "FP64")
    ask("wrong type", live, FRAME)
    live._input = kept
    said["goes on with"] = live.step(FRAME)["frame"]
    live.step(None, end=True)
    ask("after the end", live, FRAME)
    text: Any = "camera"
    ask("text id", server.stream(api, text), FRAME)
    unknown = server.stream(api)
    unknown.started = True
    ask("no start", unknown, FRAME)
    nobody = server.stream(api)
    nobody.sequence = 0
    ask("id 0", nobody, FRAME)
    return said


def sizes(server: Server) -> Any:
    """Bytes of each output of a first frame, by name."""
    stream = server.stream("grpc")
    found = {}
    infer = stream.client.infer

    def kept(*given: Any, **named: Any) -> Any:
        answer = infer(*given, **named)
        raw = answer.get_response()
        found.update(
            (output.name, len(content))
            for output, content in zip(raw.outputs, raw.raw_output_contents, strict=True)
        )
        return answer

    stream.client.infer = kept
    stream.step(FRAME, PROMPTS, end=True)
    return found


def begun(server: Server, sequence: str) -> Any:
    """Begin a session, say so, and be killed."""
    print(json.dumps(server.stream("grpc", int(sequence)).step(FRAME, PROMPTS)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def left(server: Server, clip: str, prompts: str, how: str) -> Any:
    """Take three frames of a clip, and leave: closed, or killed."""
    steps = server.clip(clip, json.loads(prompts))
    taken = list(islice(steps, 3))
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    steps.close()
    return taken


def wrong_clip(server: Server, clip: str, prompts: str) -> Any:
    """What a clip that cannot be tracked is answered."""
    try:
        return list(server.clip(clip, json.loads(prompts)))
    except tritonclient.utils.InferenceServerException as error:
        return error.message()


if __name__ == "__main__":
    name, grpc_port, http_port, *words = sys.argv[1:]
    functions = {f.__name__: f for f in (load, wrong, sizes, begun, left, wrong_clip)}
    print(json.dumps(functions[name](Server(grpc_port, http_port), *words)), flush=True)
    # threads of clients that were not closed may keep a process for ever
    os._exit(0)
