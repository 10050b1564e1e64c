"""Makes the README's moving picture: ``python docs/moving_picture.py [PICTURE.webp]``.

`sam2rt demo` tracks its synthetic clip with the built-in model. The picture shows the clip on the
left and what was tracked on the right. The clip is drawn by this project, so nobody else has rights
in it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sam2rt.benchmarks.demo import demo_checkpoint, demonstrate
from sam2rt.export.bundle import export_bundle
from sam2rt.runtime.media.open import open_frames

PICTURE = Path(__file__).with_name("demo.webp")
#: a quarter of a second a frame would be a slide show, the clip's own 25 a second are over at once
_MILLISECONDS = 80
_FRAMES = 36


def make_picture(path: Path) -> None:
    """Track the demonstration's clip and write it beside its masks as an animated WebP file."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bundle = export_bundle(demo_checkpoint(None), work / "work" / "bundle", seed=0)
        demonstrate(bundle, work, frames=_FRAMES)
        with (
            open_frames(work / "work" / "clip.mp4") as clip,
            open_frames(work / "demo.mp4") as ours,
        ):
            pages = [
                Image.fromarray(np.concatenate(pair, axis=1))
                for pair in zip(clip, ours, strict=True)
            ]
        pages[0].save(
            path, save_all=True, append_images=pages[1:], duration=_MILLISECONDS, loop=0, quality=80
        )


if __name__ == "__main__":
    make_picture(Path(sys.argv[1]) if sys.argv[1:] else PICTURE)
