"""Taking a connection over from HTTP: `101 UPGRADED`, then the streams of a process.

The client sends `Connection: Upgrade` and `Upgrade: tcp`, and nothing of stdin
before it has the 101. What it sends then is stdin; its half-close is the end
of stdin, its close a detaching.
"""

import asyncio
import contextlib
import select
import socket
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ..client.detach import DetachKeys
from ..client.streams import Demultiplexer
from ..errors import BadRequest

_BUFFER = 1 << 16
_CLOSE_BOUND = 5.0
_HEAD = (
    b"HTTP/1.1 101 UPGRADED\r\n"
    b"Content-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\n"
    b"Upgrade: tcp\r\n"
)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
    if request.headers.get("Upgrade", "").lower() != "tcp":
        raise BadRequest(
            f"{request.path} takes the connection over:"
            " send the headers `Connection: Upgrade` and `Upgrade: tcp`"
        )


class Hijack:
    """A connection that carries raw bytes from now on."""

    def __init__(self, request: web.Request, *, exec_id: str = "") -> None:
        """`exec_id` is told in the header `X-Hyper-Exec`."""
        protocol = request.protocol
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        self.response = _Taken()
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
        about = f"X-Hyper-Exec: {exec_id}\r\n".encode() if exec_id else b""
        self._writer.write(_HEAD + about + b"\r\n")

    @property
    def gone(self) -> asyncio.Future[None]:
        """Done when the client has closed the connection."""
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
        """Send something before the streams are carried. Raises ConnectionError."""
        self._writer.write(data)
        await self._writer.drain()

    async def carry(
        self, streams: Streams, *, stdin: bool, keys: bytes = b"", frames: bool = True
    ) -> bool:
        """Carry both ways until the process ends or the client leaves.

        With `keys` the input ends where they stand; without `frames` those of stdout and
        stderr are taken off. Returns whether the client left.
        """
        reader, writer = streams
        watched = DetachKeys(keys) if keys else None
        up = asyncio.create_task(self._copy_in(writer, stdin, watched))
        copy = _copy if frames else _copy_without_frames
        down = asyncio.create_task(copy(reader, self._writer))
        waited: set[asyncio.Future[Any]] = {up, down, self.gone}
        try:
            while True:
                done, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if done != {up} or up.result():
                    return down not in done
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.wait([up, down])
            writer.close()
            await self.close()

    async def _copy_in(
        self, writer: asyncio.StreamWriter, stdin: bool, keys: DetachKeys | None
    ) -> bool:
        """Returns whether the client detached, rather than ended stdin."""
        try:
            while data := await self._reader.read(_BUFFER):
                data, detached = keys.feed(data) if keys else (data, False)
                if stdin:
                    writer.write(data)
                    await writer.drain()
                if detached:
                    return True
        except ConnectionError:
            return False
        if self._closed():
            return True
        if stdin and writer.can_write_eof():
            with contextlib.suppress(OSError):
                writer.write(keys.end() if keys else b"")
                writer.write_eof()
        return False

    async def close(self) -> None:
        """Send what is left and close."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_BOUND):
                await self._writer.wait_closed()


async def _copy_without_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    taken_off = Demultiplexer()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BUFFER):
            for _, part in taken_off.feed(data):
                writer.write(bytes(part))
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BUFFER):
            writer.write(data)
            await writer.drain()
