"""What is known of one video under work."""

from __future__ import annotations

from ..frames import FrameSource
from ..tracking.tracker import Features
from ..tracking.video_object import VideoObject


class VideoState:
    """One video under work; made by :meth:`VideoPredictor.init_state`.

    frames, num_frames, video_height, video_width and obj_ids are for everyone; objects, features
    and edits are the predictor's.
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
