"""Taking a connection over from HTTP: `101 UPGRADED`, then the streams of a process.

The client sends `Connection: Upgrade` and `Upgrade: tcp`, and nothing of stdin
before it has the 101. What it sends then is stdin; its half-close is the end
of stdin, its close a detaching.

TLS has no half-close. With `Upgrade: hyper-frames` instead, stdin comes in frames as the
output does, of stream 0, and an empty frame is its end.
"""

import asyncio
import contextlib
import select
import socket
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ..client.streams import FRAMED
from ..errors import BadRequest
from .carrying import Carrier

_HEADER = 8
_BUFFER = 1 << 16
_CLOSE_BOUND = 5.0
_HEAD = (
    b"HTTP/1.1 101 UPGRADED\r\n"
    b"Content-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\n"
)


class _Taken(web.StreamResponse):
    """Stands for the response that was written by hand."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to send."""
        return None

    async def write_eof(self, data: Any = b"") -> None:
        """Nothing is left to send."""


class _Protocol(asyncio.StreamReaderProtocol):
    """Streams on aiohttp's transport; tells it and `gone` when the connection is lost."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)
        self._before.connection_lost(exc)


def check_upgrade(request: web.Request) -> None:
    """Raises BadRequest when the client does not ask for the raw connection."""
    if request.headers.get("Upgrade", "").lower() not in ("tcp", FRAMED):
        raise BadRequest(
            f"{request.path} takes the connection over:"
            " send the headers `Connection: Upgrade` and `Upgrade: tcp`"
        )


class Hijack(Carrier):
    """A connection that carries raw bytes from now on."""

    def __init__(self, request: web.Request, *, exec_id: str = "") -> None:
        """`exec_id` is told in the header `X-Hyper-Exec`."""
        protocol = request.protocol
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        super().__init__(_Taken())
        self._framed = request.headers.get("Upgrade", "").lower() == FRAMED
        self._left = 0
        self._ended = False
        self._reader = asyncio.StreamReader(limit=_BUFFER)
        self._protocol = _Protocol(self._reader, protocol)
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)
        early, protocol._message_tail = protocol._message_tail, b""
        if early:
            self._reader.feed_data(early)
        if not transport.is_reading():
            transport.resume_reading()
        self._writer = asyncio.StreamWriter(
            transport, self._protocol, self._reader, asyncio.get_running_loop()
        )
        about = f"Upgrade: {FRAMED if self._framed else 'tcp'}\r\n"
        if exec_id:
            about += f"X-Hyper-Exec: {exec_id}\r\n"
        self._writer.write(_HEAD + about.encode() + b"\r\n")

    @property
    def gone(self) -> asyncio.Future[None]:
        """Part of Carrier."""
        return self._protocol.gone

    def _closed(self) -> bool:
        """Whether the peer closed both ways (a half-close is the end of stdin only)."""
        sock: socket.socket | None = self._writer.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return True
        poller = select.poll()
        poller.register(sock.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poller.poll(0))

    async def write(self, data: bytes) -> None:
        """Part of Carrier."""
        self._writer.write(data)
        await self._writer.drain()

    async def read(self) -> bytes | None:
        """Part of Carrier."""
        if self._ended:
            await self._left_at_last()
            return None
        try:
            data = await (self._read_frame() if self._framed else self._reader.read(_BUFFER))
        except asyncio.IncompleteReadError:
            return None
        if data:
            return data
        self._ended = True
        return None if not self._framed and self._closed() else b""

    async def _left_at_last(self) -> None:
        """After the end of stdin: wait until the client leaves."""
        if self._framed:
            while await self._reader.read(_BUFFER):
                pass
        else:
            await asyncio.shield(self.gone)

    async def _read_frame(self) -> bytes:
        if not self._left:
            header = await self._reader.readexactly(_HEADER)
            if any(header[:4]):
                raise ConnectionResetError(f"bad frame of stdin: {header.hex()}")
            self._left = int.from_bytes(header[4:], "big")
            if not self._left:
                return b""
        data = await self._reader.read(min(self._left, _BUFFER))
        if not data:
            raise asyncio.IncompleteReadError(b"", self._left)
        self._left -= len(data)
        return data

    async def close(self) -> None:
        """Part of Carrier."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_BOUND):
                await self._writer.wait_closed()
