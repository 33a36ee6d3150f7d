"""Reading containers' logs: Docker's json-file format, with its rotated files.

A line is `{"log": text, "stream": "stdout"|"stderr", "time": RFC 3339}`; the
newest file is PATH, older ones are PATH.1, PATH.2 and so on.
"""

import asyncio
import json
import os
import re
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ..errors import BadRequest

_POLL = 0.1
_BLOCK = 1 << 16
_MAX_LINE = 1 << 20
_HEADER = struct.Struct(">BxxxI")
_STREAMS = {"stdout": 1, "stderr": 2}
_TIME = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Query:
    """What is wanted: `since` in nanoseconds since 1970, `tail` of None is all."""

    stdout: bool = True
    stderr: bool = True
    since: int = 0
    timestamps: bool = False
    tail: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line as the container wrote it, with its newline."""

    stream: str
    text: str
    time: str

    def render(self, query: Query, *, raw: bool) -> bytes:
        """The bytes that a client gets: framed (stdcopy) unless `raw`."""
        text = f"{self.time} {self.text}" if query.timestamps else self.text
        data = text.encode()
        return data if raw else _HEADER.pack(_STREAMS[self.stream], len(data)) + data


def parse_time(value: str, where: str) -> int:
    """Nanoseconds since 1970 of `SECONDS[.FRACTION]` or an RFC 3339 time. Raises BadRequest."""
    if match := _TIME.fullmatch(value):
        return int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0") or 0)
    try:
        return _nanoseconds(value)
    except ValueError:
        raise BadRequest(
            f"{where}: {value!r} is neither a number of seconds since 1970 nor an RFC 3339 time"
        ) from None


def _nanoseconds(text: str) -> int:
    """As `datetime` has microseconds only, its fraction is cut off."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    fraction = re.search(r"\.(\d+)", text)
    nanoseconds = int(fraction[1][:9].ljust(9, "0")) if fraction else 0
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + nanoseconds


def _parse(data: bytes) -> Line | None:
    """A line of the file; None for one that a crash left torn."""
    try:
        entry = json.loads(data)
        line = Line(entry["stream"], entry["log"], entry["time"])
    except (ValueError, KeyError, TypeError):
        return None
    return line if line.stream in _STREAMS else None


def _wanted(line: Line, query: Query) -> bool:
    if not (query.stdout if line.stream == "stdout" else query.stderr):
        return False
    if not query.since:
        return True
    try:
        return _nanoseconds(line.time) >= query.since
    except ValueError:
        return True


def _files(path: Path) -> list[Path]:
    """The log's files, oldest first."""
    numbered = []
    for other in path.parent.glob(path.name + ".*"):
        suffix = other.name.removeprefix(path.name + ".")
        if suffix.isdigit():
            numbered.append((int(suffix), other))
    return [other for _, other in sorted(numbered, reverse=True)] + [path]


class LogReader:
    """Reads a log once, then what is added to it."""

    def __init__(self, path: Path, query: Query) -> None:
        self._path = path
        self._query = query
        self._file: BinaryIO | None = None
        self._rest = b""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def existing(self) -> Iterator[Line]:
        """What is there, of all files. With `tail` only so many last lines."""
        lines = self._existing()
        return iter(deque(lines, self._query.tail)) if self._query.tail is not None else lines

    def _existing(self) -> Iterator[Line]:
        for path in _files(self._path):
            self.close()
            self._rest = b""
            try:
                self._file = path.open("rb")
            except FileNotFoundError:
                continue
            yield from self._more()

    def _more(self) -> Iterator[Line]:
        """The lines up to the end of the open file."""
        assert self._file is not None
        while block := self._file.read(_BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            if len(self._rest) > _MAX_LINE:
                self._rest = b""
            for data in lines:
                line = _parse(data)
                if line is not None and _wanted(line, self._query):
                    yield line

    def added(self) -> Iterator[Line]:
        """What was added since, through a rotation."""
        if self._file is not None:
            yield from self._more()
        if self._rotated():
            self.close()
            self._rest = b""
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return
            yield from self._more()

    def _rotated(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        mine = os.fstat(self._file.fileno())
        if (mine.st_ino, mine.st_dev) != (now.st_ino, now.st_dev):
            return True
        if now.st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        return False


async def read(
    path: Path, query: Query, *, raw: bool, follow: Callable[[], bool] | None
) -> AsyncIterator[bytes]:
    """A log as a client gets it, in pieces of moderate size.

    `follow` says whether more may come; None: only what is there.
    """
    reader = LogReader(path, query)
    try:
        for piece in _pieces(reader.existing(), query, raw):
            yield piece
            await asyncio.sleep(0)
        while follow is not None:
            more = follow()
            for piece in _pieces(reader.added(), query, raw):
                yield piece
            if not more:
                return
            await asyncio.sleep(_POLL)
    finally:
        reader.close()


def _pieces(lines: Iterator[Line], query: Query, raw: bool) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += line.render(query, raw=raw)
        if len(piece) >= _BLOCK:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
