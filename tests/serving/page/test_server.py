"""The page and its server: one that wants a token, one that dies, one that comes back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from page_driver import PageDriver
from server_process import ServerProcess
from square_clip import CLICK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OpenPage = Callable[..., PageDriver]
FIRST = (67.5, 85.5)
_TOKEN = "a-long-token-7"
_BROKEN_OFF = "The server broke off its answer. Is it still running?"
_UNREACHABLE = "The server does not answer. Is it still running?"


def test_a_server_with_a_token_is_used_as_any_other(
    open_page: OpenPage, served: ServerProcess, tmp_path: Path
) -> None:
    server = ServerProcess(served.bundle, tmp_path, "--token", _TOKEN)
    with closing(_stopping(server)):
        page = open_page(address=f"{server.address}?token={_TOKEN}")
        page.open_sample("shapes")
        page.click(*FIRST)
        page.track()
        assert page.download("masks.zip", tmp_path).name == "Shapes_that_move_masks.zip"
        page.page.reload()
        page.page.wait_for_selector(".object")
        page.settle()
        assert page.objects() == ["Object 1"]
        page.page.click("#open-other")
        page.page.click("#camera")
        page.page.wait_for_selector("#facts:has-text(' \u00d7 ')")
        page.page.click("#live-stop")
        assert page.notices() == []


def test_a_page_without_the_token_says_what_is_missing(
    browser: Any, served: ServerProcess, tmp_path: Path
) -> None:
    server = ServerProcess(served.bundle, tmp_path, "--token", _TOKEN)
    with closing(_stopping(server)), browser.new_context() as context:
        page = PageDriver(context.new_page(), server.address)
        page.page.goto(page.address)
        page.page.wait_for_selector(".notice")
        assert page.notices() == [
            "This server wants its token: open the page with ?token=TOKEN at the end of its "
            "address."
        ]
        assert page.page.locator("#samples").text_content() == "Not available."


def test_a_server_that_dies_and_comes_back(
    open_page: OpenPage, served: ServerProcess, tmp_path: Path, long_clip: Path
) -> None:
    server = ServerProcess(served.bundle, tmp_path)
    page = open_page(address=server.address)
    # what the browser itself says of a connection that is gone
    page.expected = ["Failed to load resource"]
    page.open_file(long_clip, (128, 96))
    page.click(*CLICK["points"][0])
    page.page.click("#track")
    page.page.wait_for_selector("#track-text:text-matches('^([3-9]|[1-9][0-9]) /')")
    server.kill()
    page.wait_tracked()
    # a frame that was asked for meanwhile may be missed, too
    assert _BROKEN_OFF in page.notices()
    assert set(page.notices()) <= {_BROKEN_OFF, _UNREACHABLE}
    while page.notices():
        page.page.locator("[aria-label='Dismiss']").first.click()
    page.click(20, 20, shift=True)
    assert page.notices() == [_UNREACHABLE]
    server = ServerProcess(served.bundle, tmp_path, port=server.port)
    with closing(_stopping(server)):
        page.click(30, 30, shift=True)
        page.page.wait_for_selector("#expired[open]")
        # the file is gone with the server: it is sent again
        page.page.click("#reopen")
        page.page.wait_for_selector(".notice.info")
        page.settle()
        assert page.notices() == ["Opened again, with your clicks. Track again to have all masks."]
        page.track()
        session = server.call("GET", f"v1/sessions/{page.session()}")
        assert session["tracked"] == [[0, 119]]


def _stopping(server: ServerProcess) -> Any:
    return SimpleNamespace(close=server.stop)
