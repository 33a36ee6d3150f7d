"""Containers' logs as clients get them: lines chosen and rendered, while they are written too."""

import asyncio
import re
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from ..errors import BadRequest
from .logfiles import BLOCK, STREAMS, Line, LogReader, Mark, Query, nanoseconds

_POLL = 0.1
_HEADER = struct.Struct(">BxxxI")
_TIME = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)


def parse_time(value: str, where: str) -> int:
    """Nanoseconds since 1970 of `SECONDS[.FRACTION]` or an RFC 3339 time. Raises BadRequest."""
    if match := _TIME.fullmatch(value):
        return int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0") or 0)
    try:
        return nanoseconds(value)
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{where}: {value!r} is neither a number of seconds since 1970 nor an RFC 3339 time"
        ) from None


def render(line: Line, query: Query, *, raw: bool) -> bytes:
    """The bytes that a client gets: framed (stdcopy) unless `raw`."""
    text = line.text
    if query.details:
        text = f"{_details(line)} {text}"
    if query.timestamps:
        text = f"{line.time} {text}"
    return frame(line.stream, text.encode(errors="surrogateescape"), raw=raw)


def frame(stream: str, data: bytes, *, raw: bool) -> bytes:
    """Bytes of `stdout` or `stderr` as a client gets them."""
    return data if raw else _HEADER.pack(STREAMS[stream], len(data)) + data


def _details(line: Line) -> str:
    """The line's attributes as Docker shows them: escaped as in a URL, by name."""
    return ",".join(f"{quote(str(k))}={quote(str(v))}" for k, v in sorted(line.attrs.items()))


async def read(
    path: Path,
    query: Query,
    *,
    raw: bool,
    follow: Callable[[], bool] | None,
    end: Mark | None = None,
) -> AsyncIterator[bytes]:
    """A log as a client gets it, in pieces of moderate size.

    `follow` says whether more may come; None: only what is there, up to `end`.
    """
    reader = LogReader(path, query, end=end)
    try:
        await asyncio.to_thread(reader.seek)
        while not reader.finished:
            more = follow is not None and follow() and not query.ended_by(time.time_ns())
            for piece in _pieces(reader.lines(), query, raw):
                yield piece
                await asyncio.sleep(0)
            if not more:
                return
            await asyncio.sleep(_POLL)
    finally:
        reader.close()


def _pieces(lines: Iterator[Line], query: Query, raw: bool) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += render(line, query, raw=raw)
        if len(piece) >= BLOCK:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
