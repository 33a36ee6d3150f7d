"""A ttrpc client for asyncio: one connection, and any number of calls on it at once."""

import asyncio
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ..api import ttrpc_pb2
from .frames import REQUEST, RESPONSE, Frame, FrameReader, pack
from .messages import request_of, result_of
from .status import CallError, Code

_CHUNK = 1 << 16
M = TypeVar("M", bound=Message)


class AsyncClient:
    """Calls the server at a socket's path. `lost` is done once the connection is over."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: dict[int, asyncio.Future[Frame]] = {}
        self._stream = 1
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, timeout: float) -> None:
        """Connect, once. Raises CallError (UNAVAILABLE)."""
        try:
            async with asyncio.timeout(timeout):
                reader, self._writer = await asyncio.open_unix_connection(self.path)
        except (OSError, TimeoutError) as error:
            self._end()
            raise CallError(Code.UNAVAILABLE, f"{self.path}: {error or 'no answer'}") from None
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = FrameReader()
        try:
            while data := await reader.read(_CHUNK):
                for frame in frames.feed(data):
                    waiting = self._calls.pop(frame.stream, None)
                    if frame.kind == RESPONSE and waiting is not None and not waiting.done():
                        waiting.set_result(frame)
        except OSError:
            pass
        finally:
            self._end()

    def _end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for waiting in self._calls.values():
            waiting.cancel()
        self._calls.clear()

    async def call(
        self, service: str, method: str, request: Message, answer: type[M], timeout: float | None
    ) -> M:
        """One call, of at most `timeout` seconds.

        Raises CallError with the server's code, or UNAVAILABLE (the connection is lost) or
        DEADLINE_EXCEEDED.
        """
        data = request_of(service, method, request, timeout)
        try:
            async with asyncio.timeout(timeout):
                frame = await self._exchange(data)
        except TimeoutError:
            text = f"{self.path}: {method}: no answer in {timeout:g} s"
            raise CallError(Code.DEADLINE_EXCEEDED, text) from None
        return self._answer(frame, method, answer)

    async def _exchange(self, data: bytes) -> Frame:
        if self._writer is None or self.lost.done():
            raise CallError(Code.UNAVAILABLE, f"{self.path}: the connection is closed")
        stream, self._stream = self._stream, self._stream + 2
        waiting: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._calls[stream] = waiting
        try:
            self._writer.write(pack(stream, REQUEST, data))
            await self._writer.drain()
            return await waiting
        except OSError:
            raise CallError(Code.UNAVAILABLE, f"{self.path}: the connection is lost") from None
        except asyncio.CancelledError:
            if not self.lost.done():
                raise
            text = f"{self.path}: the connection was closed before an answer"
            raise CallError(Code.UNAVAILABLE, text) from None
        finally:
            self._calls.pop(stream, None)

    def _answer(self, frame: Frame, method: str, answer: type[M]) -> M:
        try:
            if frame.payload is None:
                raise CallError(
                    Code.RESOURCE_EXHAUSTED, f"{method}: an answer of {frame.length} bytes"
                )
            return result_of(ttrpc_pb2.Response.FromString(frame.payload), answer)
        except DecodeError:
            text = f"{self.path}: {method}: the answer is not a protobuf"
            raise CallError(Code.INTERNAL, text) from None

    async def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=1.0)
            self._reading.cancel()
        self._end()
