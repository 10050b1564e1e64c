"""The page's modules run by node or a browser, and a browser that tells of everything it does."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from bundles import SharedBundles
from page_driver import PageDriver
from server_process import ServerProcess
from square_clip import moving_square

from sam2rt.runtime.media.video.writer import open_video_writer

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "serving" / "page"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
NODE = shutil.which("node")
NO_BROWSER = "the browser chromium is not installed"
#: a sandbox inside a container's own is refused; cameras are the browser's moving pattern
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

#: runs the body of an async function, with `load(module)` and `given`, and gives what it returns
Evaluate = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_OPTIONS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def evaluate(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Evaluate]:
    """Runs JavaScript against modules of the page: in node, or in a browser where that lacks."""
    with ExitStack() as stack:
        if NODE is None:
            browser = request.getfixturevalue("browser")
            yield _in_browser(stack.enter_context(browser.new_context()).new_page())
        else:
            yield _in_node(NODE, tmp_path_factory.mktemp("modules"))


def _in_node(node: str, folder: Path) -> Evaluate:
    shutil.copytree(PAGE, folder / "page")
    (folder / "package.json").write_text('{"type": "module"}')

    def run(body: str, given: Any = None) -> Any:
        code = (
            "const load = (module) => import(`./page/${module}`);\n"
            f"const given = {json.dumps(given)};\n"
            f"const found = await (async () => {{ {body} }})();\n"
            "process.stdout.write(JSON.stringify(found ?? null));"
        )
        (folder / "script.js").write_text(code)
        done = subprocess.run([node, "script.js"], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def _in_browser(page: Any) -> Evaluate:
    def answer(route: Any) -> None:
        name = route.request.url.partition("/page/")[2]
        if name:
            route.fulfill(path=PAGE / name)
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    page.route("http://page.invalid/**", answer)
    page.goto("http://page.invalid/")

    def run(body: str, given: Any = None) -> Any:
        load = "const load = (module) => import(`/page/${module}`);"
        return page.evaluate(f"async (given) => {{ {load} {body} }}", given)

    return run


@pytest.fixture(scope="session")
def served(
    shared_bundles: SharedBundles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    server = ServerProcess(shared_bundles.built_in(), tmp_path_factory.mktemp("served"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A square that moves, 128 x 96, 120 frames: time enough to act while it is tracked."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with open_video_writer(path, 25.0, (96, 128)) as writer:
        for index, frame in enumerate(moving_square(120)):
            writer.write(frame, index / 25)
    return path


#: opens a page: options size=(width, height), dark=False, touch=False, address=None
OpenPage = Callable[..., PageDriver]
WIDE, PHONE = (1280, 720), (375, 812)


@pytest.fixture
def open_page(browser: Any, served: ServerProcess) -> Iterator[OpenPage]:
    """Pages that may ask their own server alone and have nothing to complain of."""
    with ExitStack() as stack:
        drivers: list[PageDriver] = []

        def opened(
            size: tuple[int, int] = WIDE,
            dark: bool = False,
            touch: bool = False,
            address: str | None = None,
        ) -> PageDriver:
            context = stack.enter_context(
                browser.new_context(
                    viewport={"width": size[0], "height": size[1]},
                    color_scheme="dark" if dark else "light",
                    has_touch=touch,
                    is_mobile=touch,
                    device_scale_factor=2 if touch else 1,
                )
            )
            driver = PageDriver(context.new_page(), address or served.address, touch)
            drivers.append(driver)
            driver.start()
            return driver

        yield opened
        for driver in drivers:
            assert driver.hosts == {urlsplit(driver.address).netloc}
            assert driver.unexpected() == []
