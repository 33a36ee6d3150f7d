"""Answers that are lines of JSON, in Docker's form of progress."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

from aiohttp import web

from ..errors import HyperError, to_wire

_QUEUE = 1000


class LineStream:
    """A response of JSON lines. Nothing is sent before the first, so an error may come before."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._response: web.StreamResponse | None = None

    def progress(self, line: dict[str, Any]) -> None:
        """Take a line, from any thread; bars that a slow client would not see are dropped."""
        self._loop.call_soon_threadsafe(self._put, line)

    def _put(self, line: dict[str, Any]) -> None:
        if self._lines.qsize() < _QUEUE or "progressDetail" not in line:
            self._lines.put_nowait(line)

    async def run(self, work: Awaitable[object]) -> web.StreamResponse:
        """Do the work and send its progress; its error ends the stream."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._loop.call_soon(self._lines.put_nowait, None))
        try:
            while (line := await self._lines.get()) is not None:
                await self._send(line)
            await task
        except HyperError as error:
            if self._response is None:
                raise
            wire = to_wire(error)
            await self._send({"error": error.message, "errorDetail": wire})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        response = await self._open()
        await response.write_eof()
        return response

    async def _send(self, line: dict[str, Any]) -> None:
        response = await self._open()
        await response.write(json.dumps(line).encode() + b"\r\n")

    async def _open(self) -> web.StreamResponse:
        if self._response is None:
            self._response = web.StreamResponse(headers={"Content-Type": "application/json"})
            self._response.enable_chunked_encoding()
            await self._response.prepare(self._request)
        return self._response
