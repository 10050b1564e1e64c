"""A written video plays in a browser: frames at their times and in their colours."""

from __future__ import annotations

import base64
import json
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.runtime.media.video.writer import open_video_writer

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(_BROWSER is None, reason="the browser chromium is not installed")
_COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 30), (128, 128, 128)]
_PAGE = """<video muted src="data:video/mp4;base64,%s"></video><script>
const video = document.querySelector("video");
const tell = found => fetch("/", {method: "POST", body: JSON.stringify(found)});
const times = %s, seen = [];
const next = () => {
  if (seen.length == times.length) {
    tell({width: video.videoWidth, height: video.videoHeight, duration: video.duration, seen});
  } else video.currentTime = times[seen.length];
};
video.onerror = () => tell({error: video.error.message});
// a seek may be over before its frame is shown; nothing tells where the frame was shown already
video.onseeked = () => {
  const once = {left: true};
  const draw = () => { if (once.left) { once.left = false; drawn(); } };
  video.requestVideoFrameCallback(draw);
  setTimeout(draw, 1000);
};
const drawn = () => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 1, 1, 0, 0, 1, 1);
  seen.push([...context.getImageData(0, 0, 1, 1).data.slice(0, 3)]);
  next();
};
video.readyState >= 2 ? next() : video.onloadeddata = next;
</script>"""


def _played(path: Path, times: list[float]) -> dict[str, Any]:
    """What the browser tells of a video: its size, and the first pixel at some times."""
    page = _PAGE % (base64.b64encode(path.read_bytes()).decode(), json.dumps(times))
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page.encode())

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = subprocess.Popen(
        [str(_BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--user-data-dir={path.parent / 'profile'}",
         f"http://127.0.0.1:{server.server_address[1]}/"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return told.get(timeout=120)
    finally:
        browser.terminate()
        browser.wait(30)
        server.shutdown()
        server.server_close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("size", "shown", "times"),
    [
        ((48, 64), (48, 64), [i / 25 for i in range(5)]),
        ((49, 65), (50, 66), [i / 66.6667 for i in range(5)]),
        ((120, 1), (120, 16), [i / 239.123 for i in range(5)]),
        ((1, 1), (16, 16), [0, 0.1, 0.5, 0.55, 2]),
    ],
    ids=["25", "66.6667 odd", "239.123 one pixel wide", "uneven one pixel"],
)
def test_a_written_video_plays_in_a_browser(
    size: tuple[int, int], shown: tuple[int, int], times: list[float], tmp_path: Path
) -> None:
    path, fps = tmp_path / "v.mp4", 1 / times[1]
    with open_video_writer(path, fps, size) as writer:
        for colour, time in zip(_COLOURS, times, strict=True):
            writer.write(np.full((*size, 3), colour, np.uint8), time)
    ends = [*times[1:], times[-1] + 1 / fps]
    middles = [(a + b) / 2 for a, b in zip(times, ends, strict=True)]
    played = _played(path, middles)
    assert "error" not in played, played
    assert (played["height"], played["width"]) == shown
    assert played["duration"] == pytest.approx(ends[-1], abs=0.002)
    # Chromium rounds chroma coarsely; colours of BT.601 would be off by up to 40
    np.testing.assert_allclose(played["seen"], _COLOURS, atol=12)
