"""What is known of one video under work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...configs.checks import shown
from ...configs.errors import InputError
from ..frames import FrameSource
from ..tracking.tracker import Features
from ..tracking.video_object import VideoObject


class VideoState:
    """One video under work; made by :meth:`VideoPredictor.init_state`.

    frames, num_frames, video_height, video_width and obj_ids are for everyone; objects, features
    and edits are the predictor's. The original's state is a dict: those of its keys that say
    something here are read as there, ``state["obj_ids"]``.
    """

    def __init__(self, frames: FrameSource) -> None:
        self.frames = frames
        self.num_frames: int = frames.num_frames
        self.video_height: int = frames.height
        self.video_width: int = frames.width
        #: by object id, in the order in which they were added
        self.objects: dict[int, VideoObject] = {}
        #: those of the frame that was worked on last, with its index
        self.features: tuple[int, Features] | None = None
        #: counts prompts, so that a running propagation notices new ones
        self.edits = 0

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order in which they were added."""
        return list(self.objects)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the video, pixels."""
        return self.video_height, self.video_width

    def __contains__(self, key: object) -> bool:
        return key in _KEYS

    def __getitem__(self, key: str) -> Any:
        """A key of the original's state; what it gives is a copy. InputError for other keys."""
        try:
            read = _KEYS[key]
        except (KeyError, TypeError):
            raise InputError(
                f"inference_state has no key {shown(key)}: expected one of {', '.join(_KEYS)}"
            ) from None
        return read(self)


#: the keys of the original's state that are read here too
_KEYS: dict[str, Callable[[VideoState], Any]] = {
    "num_frames": lambda state: state.num_frames,
    "video_height": lambda state: state.video_height,
    "video_width": lambda state: state.video_width,
    "obj_ids": lambda state: state.obj_ids,
    "obj_id_to_idx": lambda state: {obj_id: i for i, obj_id in enumerate(state.objects)},
    "obj_idx_to_id": lambda state: dict(enumerate(state.objects)),
}
