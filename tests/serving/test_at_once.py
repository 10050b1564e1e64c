"""Eight sessions at once: nothing is lost, nothing mixed up, masks are those of a lone session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import serving
from square_clip import moving_square

from sam2rt import VideoPredictor
from sam2rt.runtime.media.images import write_image
from sam2rt.runtime.pixels.rle import rle_from_mask


def _clips(folder: Path, count: int, frames: int) -> list[dict[str, Any]]:
    """Clips that all differ, and a prompt of its own for each."""
    prompts = []
    for number in range(count):
        clip = moving_square(frames)
        (folder / f"clip{number}").mkdir()
        for t, frame in enumerate(clip):
            write_image(folder / f"clip{number}" / f"{t:03d}.png", np.roll(frame, 7 * number, 1))
        prompts.append({"points": [[20 + 7 * number, 42]], "labels": [1]})
    return prompts


def _alone(session: Any, clip: Path, prompt: dict[str, Any]) -> list[Any]:
    predictor = VideoPredictor(session.bundle, session=session)
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 0, 1, **prompt)
    steps = predictor.propagate_in_video(state)
    return [rle_from_mask(np.asarray(logits[0, 0] > 0)) for _, _, logits in steps]


@pytest.mark.parametrize(
    "frames", [pytest.param(5, id="short"), pytest.param(200, id="long", marks=pytest.mark.slow)]
)
def test_eight_sessions_at_once(session, tmp_path, frames):
    prompts = _clips(tmp_path, 8, frames)
    with serving(session, root=tmp_path) as served, ThreadPoolExecutor(8) as pool:

        def work(number: int) -> list[Any]:
            at = served.session(path=f"clip{number}")
            served.ok("POST", f"{at}/prompts", {"object": 1, **prompts[number]})
            *lines, end = served.lines(f"{at}/propagate")
            assert end == {"end": "complete", "done": frames, "total": frames, "error": None}
            assert [line["frame"] for line in lines] == list(range(frames))
            served.ok("DELETE", at)
            return [line["objects"][0]["mask"] for line in lines]

        found = list(pool.map(work, range(8)))
        assert len(served.services.sessions) == 0
    for number, masks in enumerate(found):
        assert masks == _alone(session, tmp_path / f"clip{number}", prompts[number]), number
