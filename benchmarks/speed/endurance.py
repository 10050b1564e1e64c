"""Does the cost of a frame stay what it was? Memory and time of a long live run."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.predictors.stream import StreamTracker


def endurance(
    tracker: StreamTracker, frames: int, objects: int, *, early: int = 200
) -> dict[str, Any]:
    """Track `objects` through `frames` random frames; late figures as ratios of early ones.

    memory_ratio: resident memory at the end over that after frame `early`. time_ratio: median
    process CPU seconds of the last `early` frames over those just before frame `early`.
    """
    generator = np.random.default_rng(0)
    pool = generator.integers(0, 256, (16, 120, 160, 3), np.uint8)
    for obj_id in range(objects):
        tracker.add_points(obj_id, [[160 * (obj_id + 1) / (objects + 1), 60]], [1])
    seconds = []
    resident = 0
    for index in range(frames):
        start = time.process_time()
        np.asarray(tracker.step(pool[index % len(pool)]).logits)
        seconds.append(time.process_time() - start)
        if index + 1 == early:
            resident = resident_bytes()
    return {
        "frames": frames,
        "objects": objects,
        "memory_ratio": resident_bytes() / resident,
        "time_ratio": float(np.median(seconds[-early:]) / np.median(seconds[early // 2 : early])),
        "frame_ms": float(np.median(seconds[-early:])) * 1e3,
        "p99_over_p50": float(np.percentile(seconds[early:], 99) / np.median(seconds[early:])),
    }


#: frames of a round of :func:`come_and_go`, and the objects that it sees
_ROUND, _VISITORS = 24, 6
#: object-frames of a round
_OF_A_ROUND = 65


def come_and_go(tracker: StreamTracker, object_frames: int) -> dict[str, Any]:
    """Track at least so many object-frames of objects that come and go, ten tenths of rounds.

    In a round of 24 frames six new objects come, by a click, a box or a mask; each is corrected
    once and leaves after twelve frames at most; two frames are empty. All rounds are equal but
    for the objects' ids, so that tenths can be compared. `tracker` needs max_cond_frames_in_attn
    of 1 or more. Gives a list for each of ``resident`` (bytes), ``descriptors``, ``threads``,
    ``python_objects`` (all at the end of a tenth) and ``frame_ms`` (of processor time, the tenth's
    mean), and the number of ``frames`` and ``object_frames``.
    """
    rounds = max(1, -(-object_frames // (10 * _OF_A_ROUND)))
    found: dict[str, Any] = {"frames": 0, "object_frames": 0}
    samples: dict[str, list[float]] = {}
    for _ in range(10):
        start, before = time.process_time(), found["frames"]
        for _ in range(rounds):
            found["object_frames"] += _round(tracker, found["frames"] // _ROUND * _VISITORS)
            found["frames"] += _ROUND
        seconds = time.process_time() - start
        sample = {
            "frame_ms": 1e3 * seconds / (found["frames"] - before),
            "resident": resident_bytes(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "python_objects": len(gc.get_objects()),
        }
        for name, value in sample.items():
            samples.setdefault(name, []).append(value)
    return {**found, **samples}


def _round(tracker: StreamTracker, first_id: int) -> int:
    """One round; how many objects its frames had, all together."""
    seen = 0
    for t in range(_ROUND):
        frame = np.full((60, 80, 3), 40, np.uint8)
        for number in range(_VISITORS):
            came, left = 3 * number, min(3 * number + 12, _ROUND - 2)
            if not came <= t <= left:
                continue
            obj_id, (x, y) = first_id + number, (6 + 11 * number, 6 + t)
            if t == left:
                tracker.remove_object(obj_id, strict=True)
                continue
            frame[y : y + 14, x : x + 9] = (200, 30 * number, 90)
            if t == came + 4:
                tracker.add_points(obj_id, [[x + 4, y + 7]], [1])
            elif t == came:
                _greet(tracker, obj_id, number, (x, y))
        result = tracker.step(frame)
        np.asarray(result.logits)
        seen += len(result.obj_ids)
    return seen


def _greet(tracker: StreamTracker, obj_id: int, number: int, place: tuple[int, int]) -> None:
    """The first prompt of an object of 9 x 14 pixels."""
    x, y = place
    if number % 3 == 0:
        tracker.add_points(obj_id, [[x + 4, y + 7]], [1])
    elif number % 3 == 1:
        tracker.add_box(obj_id, [x, y, x + 9, y + 14])
    else:
        mask = np.zeros((60, 80), bool)
        mask[y : y + 14, x : x + 9] = True
        tracker.add_mask(obj_id, mask)


def resident_bytes() -> int:
    """Resident memory of this process after a garbage collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
