"""The streams of a process by WebSocket, for clients that can't take a connection over.

Binary messages go both ways: down what the process writes, up stdin, whose end is an empty
message. Closing detaches. That there is no stdin, or that it has ended, closes nothing.
"""

import asyncio
import contextlib

from aiohttp import WSMsgType, web

from ..errors import BadRequest
from .carrying import Carrier

_MAX_MESSAGE = 1 << 20
_CLOSE_BOUND = 5.0


def check_websocket(request: web.Request) -> None:
    """Raises BadRequest when the client does not ask for a WebSocket."""
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise BadRequest(f"{request.path} is a WebSocket: send the headers of its handshake")


class WebSocket(Carrier):
    """A WebSocket that carries streams. `open` it first."""

    def __init__(self, request: web.Request) -> None:
        self._socket = web.WebSocketResponse(
            timeout=_CLOSE_BOUND, max_msg_size=_MAX_MESSAGE, compress=False
        )
        super().__init__(self._socket)
        self._request = request
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Answer the handshake."""
        await self._socket.prepare(self._request)

    @property
    def gone(self) -> asyncio.Future[None]:
        """Never done: aiohttp cancels the handler of a client that has gone."""
        return self._gone

    async def read(self) -> bytes | None:
        """Part of Carrier. Texts are taken too, as UTF-8."""
        message = await self._socket.receive()
        if message.type == WSMsgType.BINARY:
            return bytes(message.data)
        if message.type == WSMsgType.TEXT:
            return str(message.data).encode()
        return None

    async def write(self, data: bytes) -> None:
        """Part of Carrier."""
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        """Part of Carrier."""
        with contextlib.suppress(OSError, RuntimeError):
            await self._socket.close()
