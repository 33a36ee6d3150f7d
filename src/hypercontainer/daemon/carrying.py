"""Carrying the streams of a process over a connection, whatever kind that is."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import Any

from aiohttp import web

from ..client.detach import DetachKeys
from ..client.streams import Demultiplexer

_BUFFER = 1 << 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Carrier(ABC):
    """A client's connection that was taken over. `response` is what its handler returns."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response

    @property
    @abstractmethod
    def gone(self) -> asyncio.Future[None]:
        """Done when the client has closed the connection."""

    @abstractmethod
    async def read(self) -> bytes | None:
        """Some of stdin; b"" for its end, None when the client has left. Raises ConnectionError."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send some output. Raises ConnectionError."""

    @abstractmethod
    async def close(self) -> None:
        """Send what is left and close."""

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
        down = asyncio.create_task(copy(reader, self))
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
        """Returns whether the client left, or detached."""
        try:
            while (data := await self.read()) is not None:
                if not data:
                    _end_stdin(writer if stdin else None, keys)
                    stdin = False
                    continue
                data, detached = keys.feed(data) if keys else (data, False)
                if stdin:
                    writer.write(data)
                    await writer.drain()
                if detached:
                    return True
        except ConnectionError:
            return False
        return True


def _end_stdin(writer: asyncio.StreamWriter | None, keys: DetachKeys | None) -> None:
    if writer is None or not writer.can_write_eof():
        return
    with contextlib.suppress(OSError):
        writer.write(keys.end() if keys else b"")
        writer.write_eof()


async def _copy_without_frames(reader: asyncio.StreamReader, target: Carrier) -> None:
    taken_off = Demultiplexer()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BUFFER):
            for _, part in taken_off.feed(data):
                await target.write(bytes(part))


async def _copy(reader: asyncio.StreamReader, target: Carrier) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BUFFER):
            await target.write(data)
