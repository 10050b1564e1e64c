"""What is left of a body when its request was refused.

A connection that is closed with bytes on their way is reset, and the client may never read why it
was refused. So a short rest is read to its end, and the connection stays. Behind a long one it is
closed: who sends gigabytes is not heard out.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

#: bytes, and seconds to wait for them
_SHORT, _PATIENCE = 4 << 20, 2.0


class BodyRest:
    """Hands a body on, and knows whether all of it came."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        self._long = announced.isdigit() and (len(announced) > 9 or int(announced) > _SHORT)
        self._ended = announced in ("", "0") and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next message, as the application gets it."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._ended = True
        return message

    async def ended(self) -> bool:
        """Whether the body is over, once a short rest was read."""
        if self._long and not self._ended:
            return False
        try:
            await asyncio.wait_for(self._drained(), _PATIENCE)
        except asyncio.TimeoutError:
            return False
        return self._ended

    async def _drained(self) -> None:
        left = _SHORT
        while not self._ended and left > 0:
            message = await self.receive()
            left -= len(message.get("body", b""))
