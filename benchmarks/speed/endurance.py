"""Does the cost of a frame stay what it was? Memory and time of a long live run."""

from __future__ import annotations

import gc
import os
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


def resident_bytes() -> int:
    """Resident memory of this process after a garbage collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
