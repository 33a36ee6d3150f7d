"""Answers whose body is a tar archive that is made while it is sent."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

log = logging.getLogger(__name__)

STALL = 120.0
"""Seconds that a client may take nothing."""


async def send_tar(
    request: web.Request, pieces: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send an archive. What fails before its first piece is an answer, later an aborted body."""
    first = await anext(pieces, b"")
    response = web.StreamResponse(headers={"Content-Type": "application/x-tar", **(headers or {})})
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        await _write(response, first)
        async for piece in pieces:
            await _write(response, piece)
        await response.write_eof()
    except ConnectionError:
        raise
    except Exception as error:
        log.warning("%s %s: %s", request.method, request.path_qs, error)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("the archive is incomplete") from error
    return response


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    async with asyncio.timeout(STALL):
        await response.write(piece)
