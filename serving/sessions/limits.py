"""How much one server takes: bytes, frames, pixels, objects, sessions, time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ...configs.checks import whole_number
from ...configs.errors import InputError, StateError


class TooLargeError(InputError):
    """More bytes, frames, pixels or memory than the server takes."""


class TooManyError(StateError):
    """More sessions, uploads or objects at once than the server takes."""


class NotFoundError(InputError):
    """A session, a medium or a sample that is not there."""


class NotMediaError(InputError):
    """A file that is neither a video nor an image, or is damaged."""


class OutsideError(InputError):
    """A path that the server does not give out."""


class StoppingError(StateError):
    """The server stops, and takes no more work."""


@dataclass(frozen=True)
class ServerLimits:
    """What a server takes at most; each at least 1.

    upload_bytes: of one file. media_bytes: of all uploaded files. frames, pixels: of one video.
    objects: of one session. sessions: open at once, live streams included. idle_seconds: a session
    that nobody asks for that long is gone. uploads: at once. upload_seconds: for one file.
    state_bytes: of what one session remembers, as its frames and objects need it at most.
    send_seconds: for a client to take what was sent.
    """

    upload_bytes: int = 1 << 30
    media_bytes: int = 16 << 30
    frames: int = 20_000
    pixels: int = 3840 * 2160
    objects: int = 32
    sessions: int = 32
    idle_seconds: int = 1800
    uploads: int = 4
    upload_seconds: int = 600
    state_bytes: int = 8 << 30
    send_seconds: int = 60

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            whole_number(item.name, getattr(self, item.name), 1)
