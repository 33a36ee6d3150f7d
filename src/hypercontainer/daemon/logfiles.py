"""The files of a container's log: Docker's json-file format, with its rotated files.

A line is `{"log": text, "stream": "stdout"|"stderr", "attrs"?: {}, "time": RFC 3339}`;
the newest file is PATH, older ones are PATH.1, PATH.2 and so on.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 16
_MAX_LINE = 1 << 20
_MAX_ATTRS = 64
STREAMS = {"stdout": 1, "stderr": 2}


@dataclass(frozen=True, slots=True)
class Query:
    """What is wanted. Times are in nanoseconds since 1970; `tail` of None is all."""

    stdout: bool = True
    stderr: bool = True
    since: int = 0
    until: int | None = None
    timestamps: bool = False
    details: bool = False
    tail: int | None = None

    def wants(self, line: "Line") -> bool:
        """Whether a line is wanted."""
        if not (self.stdout if line.stream == "stdout" else self.stderr):
            return False
        if not self.since and self.until is None:
            return True
        when = line.nanoseconds
        return when is None or (when >= self.since and not self.ended_by(when))

    def ended_by(self, when: int | None) -> bool:
        """Whether a time is past `until`."""
        return self.until is not None and when is not None and when > self.until


@dataclass(frozen=True, slots=True)
class Line:
    """A line as the container wrote it, with its newline."""

    stream: str
    text: str
    time: str
    attrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def nanoseconds(self) -> int | None:
        """Its time in nanoseconds since 1970; None when that is not readable."""
        try:
            return nanoseconds(self.time)
        except ValueError:
            return None


def nanoseconds(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    fraction = re.search(r"\.(\d+)", text)
    part = int(fraction[1][:9].ljust(9, "0")) if fraction else 0
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + part


def _parse(data: bytes) -> Line | None:
    """A line of the file; None for one that a crash left torn."""
    try:
        entry = json.loads(data)
        attrs = entry.get("attrs") or {}
        line = Line(entry["stream"], entry["log"], entry["time"], attrs)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    good = all(isinstance(text, str) for text in (line.text, line.time, line.stream))
    good = good and line.stream in STREAMS and isinstance(attrs, dict)
    return line if good and len(attrs) <= _MAX_ATTRS else None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a log: a file and an offset in it."""

    inode: int
    size: int


class LogReader:
    """Reads what a log has, then what is added to it, through rotations.

    `finished` is true once nothing more is wanted.
    """

    def __init__(self, path: Path, query: Query, *, end: Mark | None = None) -> None:
        """With `end` nothing is read beyond it."""
        self.finished = False
        self._path = path
        self._query = query
        self._end = end
        self._file: BinaryIO | None = None
        self._rest = b""

    def close(self) -> None:
        """Let the open file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def seek(self) -> None:
        """Begin where the last `tail` wanted lines do; takes a while for many, but no memory."""
        left = self._query.tail
        if left is None:
            return
        for file in self._newest_first():
            offset, found = self._tail_of(file, left)
            file.seek(offset)
            self._switch(file)
            left -= found
            if left <= 0:
                return

    def _newest_first(self) -> Iterator[BinaryIO]:
        """The open files, from that of `end` on."""
        wanted = self._end is None
        for path in reversed(_files(self._path)):
            file = _opened(path)
            if file is None:
                continue
            wanted = wanted or self._is_end(file)
            if wanted:
                yield file
            else:
                file.close()

    def _tail_of(self, file: BinaryIO, count: int) -> tuple[int, int]:
        """Where the last `count` wanted lines of a file begin, and how many there are."""
        size = os.fstat(file.fileno()).st_size
        if self._end is not None and self._is_end(file):
            size = min(size, self._end.size)
        if count <= 0:
            return size, 0
        found = 0
        for offset, data in _backwards(file, size):
            line = _parse(data)
            if line is not None and self._query.wants(line):
                found += 1
                if found == count:
                    return offset, found
        return 0, found

    def _is_end(self, file: BinaryIO) -> bool:
        return self._end is not None and os.fstat(file.fileno()).st_ino == self._end.inode

    def lines(self) -> Iterator[Line]:
        """The wanted lines up to the end of what there is now."""
        while not self.finished:
            yield from self._more()
            newer = self._newer()
            if newer is None or self.finished:
                return
            # What came after the reading and before the rotation.
            yield from self._more()
            self._switch(newer)

    def _switch(self, file: BinaryIO) -> None:
        self.close()
        self._file = file
        self._rest = b""

    def _more(self) -> Iterator[Line]:
        """The lines up to the end of the open file."""
        while block := self._block():
            *lines, self._rest = (self._rest + block).split(b"\n")
            if len(self._rest) > _MAX_LINE:
                self._rest = b""
            for data in lines:
                line = _parse(data)
                if line is None:
                    continue
                if self._query.ended_by(line.nanoseconds if self._query.until else None):
                    self.finished = True
                    return
                if self._query.wants(line):
                    yield line

    def _block(self) -> bytes:
        if self._file is None:
            return b""
        if self._end is None or not self._is_end(self._file):
            return self._file.read(BLOCK)
        left = self._end.size - self._file.tell()
        self.finished = left <= 0
        return self._file.read(min(BLOCK, max(left, 0)))

    def _newer(self) -> BinaryIO | None:
        """The file after the open one; the oldest when none is open or that one is gone."""
        files = [(path, inode) for path in _files(self._path) if (inode := _inode(path))]
        mine = os.fstat(self._file.fileno()).st_ino if self._file is not None else 0
        inodes = [inode for _, inode in files]
        position = inodes.index(mine) + 1 if mine in inodes else 0
        if self._file is not None and os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # somebody has emptied it
            self._rest = b""
        return _opened(files[position][0]) if position < len(files) else None


def _files(path: Path) -> list[Path]:
    """The log's files, oldest first."""
    numbered = []
    for other in path.parent.glob(path.name + ".*"):
        suffix = other.name.removeprefix(path.name + ".")
        if suffix.isdigit():
            numbered.append((int(suffix), other))
    return [other for _, other in sorted(numbered, reverse=True)] + [path]


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _backwards(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """The whole lines before `size` from the last to the first, each with its offset."""
    rest = b""
    position = size
    while position:
        start = max(position - BLOCK, 0)
        file.seek(start)
        data = file.read(position - start) + rest
        rest, *lines = data.split(b"\n")
        after = start + len(data)
        for line in reversed(lines):
            after -= len(line)
            if line:
                yield after, line
            after -= 1
        if len(rest) > _MAX_LINE:
            rest = b""
        position = start
    if rest:
        yield 0, rest
