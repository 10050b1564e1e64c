"""A stream without an end, whose objects come and go: memory, descriptors and time stay flat."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from sam2rt.benchmarks.speed.endurance import come_and_go
from sam2rt.configs.bundle import Bundle
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.session import Session

#: object-frames of the long run: about an hour on one core
LONG = int(os.environ.get("SAM2RT_OBJECT_FRAMES", "150000"))

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="figures of /proc")


def _check(found: dict[str, Any], object_frames: int) -> None:
    second, last = (
        {name: values[tenth] for name, values in found.items() if isinstance(values, list)}
        for tenth in (1, -1)
    )
    print(f"{found['object_frames']} object-frames, {found['frames']} frames: {second} -> {last}")
    assert found["object_frames"] >= object_frames
    # 65 of a round's 24 frames
    assert found["object_frames"] * 24 == found["frames"] * 65
    assert last["resident"] < 1.03 * second["resident"]
    assert last["descriptors"] == second["descriptors"]
    assert last["threads"] == second["threads"]
    # a record of each object that ever came would be dozens a round
    assert last["python_objects"] - second["python_objects"] < 1000
    # other processes share the caches, which is why it is no closer
    assert last["frame_ms"] < 1.3 * second["frame_ms"]


@pytest.mark.slow
def test_objects_that_come_and_go(bundle: Bundle, session: Session) -> None:
    with StreamTracker(bundle, session=session, max_cond_frames_in_attn=2) as tracker:
        _check(come_and_go(tracker, 1300), 1300)
        assert tracker.obj_ids == []


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(3 * 3600)
def test_an_endless_stream(bundle: Bundle, session: Session) -> None:
    with StreamTracker(bundle, session=session, max_cond_frames_in_attn=2) as tracker:
        _check(come_and_go(tracker, LONG), LONG)
        assert tracker.obj_ids == []
