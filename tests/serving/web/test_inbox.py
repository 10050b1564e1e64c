"""What waits for a frame of a live stream takes a bounded place."""

from __future__ import annotations

from typing import Any

import pytest

from sam2rt.serving.sessions.limits import TooManyError
from sam2rt.serving.web.live_route import _Inbox


def _mask(count: int) -> dict[str, Any]:
    return {"prompt": {"object": 1, "mask": {"size": [9, 9], "counts": "0" * count}}}


def test_masks_that_wait_are_counted() -> None:
    """A thousand of the largest would take four gigabytes."""
    inbox = _Inbox()
    for _ in range(8):
        inbox.ask(_mask(4_000_000))
    with pytest.raises(TooManyError, match="have more than 33554432 characters: send one"):
        inbox.ask(_mask(4_000_000))
    inbox.put(b"a frame")
    # asked before a frame that nobody took yet
    with pytest.raises(TooManyError, match="more than 33554432 characters"):
        inbox.ask(_mask(4_000_000))
    inbox.ask({"reset": True})
    inbox.ask({"prompt": {"object": 1, "points": [[1, 2]], "labels": [1]}})
    assert len(inbox.before) == 8
    inbox.before = []
    inbox.ask(_mask(4_000_000))
    assert len(inbox.after) == 3
