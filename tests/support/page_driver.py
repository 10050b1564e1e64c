"""Drives the page in a browser as a person would, and notes all it asks for and complains of."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

#: CSS pixels that the page leaves free around a fitted frame
_MARGIN = 14
#: milliseconds; a busy machine runs the model slowly
PATIENCE = 60_000
#: where screenshots are kept, if anywhere
SCREENSHOTS = "SAM2RT_SCREENSHOTS"


class PageDriver:
    """One open page. `size`: of the frame that is open, (width, height)."""

    def __init__(self, page: Any, address: str, touch: bool = False) -> None:
        self.page, self.address, self.touch = page, address, touch
        self.size = (256, 256)
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        #: parts of complaints that a test provokes
        self.expected: list[str] = []
        self.fetched: list[str] = []
        self.sent: list[tuple[str, str, Any]] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", self._note)
        page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data"):
            self.hosts.add(parts.netloc)
        if request.method == "GET":
            self.fetched.append(f"{parts.path}?{parts.query}".rstrip("?"))
        elif not parts.path.endswith("/media"):
            body = request.post_data
            self.sent.append((request.method, parts.path, json.loads(body) if body else None))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def unexpected(self) -> list[str]:
        """What the browser complained of, but for what was expected."""
        return [text for text in self.complaints if not any(part in text for part in self.expected)]

    # opening

    def start(self) -> None:
        """Load the page and wait for what it offers."""
        self.page.goto(self.address)
        self.page.wait_for_selector(".sample[data-sample]")

    def open_sample(self, name: str) -> None:
        self.page.click(f".sample[data-sample='{name}']")
        self.wait_open()

    def open_file(self, path: Path, size: tuple[int, int]) -> None:
        self.page.set_input_files("#file", str(path))
        self.size = size
        self.wait_open()

    def wait_open(self) -> None:
        """Until a frame can be clicked on."""
        self.page.wait_for_selector("#editor:not([hidden])")
        self.page.wait_for_selector("#hint:not([hidden])")
        self.settle()

    def settle(self) -> None:
        """Until nothing is waited for, neither masks nor frames."""
        # what a click starts has been asked for after a turn of the page
        self.page.wait_for_timeout(60)
        self.page.wait_for_selector("#stage-busy", state="hidden")
        self.page.wait_for_timeout(60)

    # pointing: places are pixels of the frame

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a fitted frame's pixel in the window."""
        box = self.page.locator("#canvas").bounding_box()
        width, height = self.size
        scale = min((box["width"] - 2 * _MARGIN) / width, (box["height"] - 2 * _MARGIN) / height)
        left = box["x"] + (box["width"] - width * scale) / 2
        top = box["y"] + (box["height"] - height * scale) / 2
        return left + x * scale, top + y * scale

    def click(self, x: float, y: float, button: str = "left", shift: bool = False) -> None:
        if self.touch:
            self.page.touchscreen.tap(*self.at(x, y))
        else:
            if shift:
                self.page.keyboard.down("Shift")
            self.page.mouse.click(*self.at(x, y), button=button)
            if shift:
                self.page.keyboard.up("Shift")
        self.settle()

    def drag(self, x0: float, y0: float, x1: float, y1: float, button: str = "left") -> None:
        self.page.mouse.move(*self.at(x0, y0))
        self.page.mouse.down(button=button)
        self.page.mouse.move(*self.at((x0 + x1) / 2, (y0 + y1) / 2))
        self.page.mouse.move(*self.at(x1, y1))
        self.page.mouse.up(button=button)
        self.settle()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def seek(self, frame: int) -> None:
        self.page.locator("#scrub").fill(str(frame))
        self.settle()

    def track(self) -> None:
        """Track, to the end."""
        self.page.click("#track")
        self.wait_tracked()

    def wait_tracked(self) -> None:
        self.page.wait_for_timeout(60)
        self.page.wait_for_selector("#track-start:not([hidden])")
        self.settle()

    def find(self) -> None:
        """Search for everything, to the end."""
        self.page.click("#find")
        self.page.wait_for_selector("#find-row:not([hidden])")
        self.page.wait_for_selector("#find-bar", state="hidden")
        self.settle()

    # looking

    def objects(self) -> list[str]:
        return self.page.locator("#objects .object-text strong").all_text_contents()

    def texts(self) -> list[str]:
        return self.page.locator("#objects .object-text span").all_text_contents()

    def notices(self) -> list[str]:
        return self.page.locator(".notice span").all_text_contents()

    def frame_number(self) -> str:
        return str(self.page.locator("#frame-number").text_content())

    def prompts(self) -> list[dict[str, Any]]:
        """All prompts that were sent, in order."""
        return [body for _, path, body in self.sent if path.endswith("/prompts") and body]

    def session(self) -> str:
        """The id of the open session."""
        return urlsplit(self.page.url).fragment

    def pixel(self, x: float, y: float) -> list[int]:
        """The colour that is drawn at a place of the frame, RGB."""
        left, top = self.at(x, y)
        clip = {"x": int(left), "y": int(top), "width": 1, "height": 1}
        with Image.open(io.BytesIO(self.page.screenshot(clip=clip))) as shown:
            return list(shown.convert("RGB").getpixel((0, 0)))

    def download(self, file: str, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.click(f"#downloads [data-file='{file}']")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def screenshot(self, name: str) -> None:
        """Keep a picture of the page where the environment names a folder."""
        if folder := os.environ.get(SCREENSHOTS):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")
