"""Logs of containers: their output cut into lines, and where the lines go.

They are written by the sandbox, so that nothing is lost while hyperd is away.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from .stdio import STDERR, STDOUT

NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_MAX_LINE = 16384


class Driver(Protocol):
    """Takes lines. It never waits and never fails: what it can't keep is lost."""

    def write(self, which: int, entries: list[bytes], when: int) -> None:
        """Lines of stdout (1) or stderr (2), with their newlines, or pieces of long ones without;
        the time in nanoseconds since 1970."""

    async def close(self) -> None:
        """Let go, within a few seconds."""


class LogSink:
    """A sink of outputs that gives lines to drivers; a long line is cut at 16 KiB as in Docker."""

    def __init__(self, *drivers: Driver) -> None:
        self._drivers = drivers
        self._partial = {STDOUT: b"", STDERR: b""}

    def blocked(self, which: int) -> bool:
        """Part of Sink: a log takes all."""
        return False

    def write(self, which: int, data: bytes) -> None:
        """Log the lines that `data` completes."""
        *lines, rest = (self._partial[which] + data).split(b"\n")
        entries = [piece for line in lines for piece in _pieces(line + b"\n")]
        *whole, self._partial[which] = _pieces(rest)
        self._log(which, entries + whole)

    def end(self, which: int) -> None:
        """Log an unfinished last line."""
        rest, self._partial[which] = self._partial[which], b""
        self._log(which, [rest] if rest else [])

    def _log(self, which: int, entries: list[bytes]) -> None:
        if not entries:
            return
        when = time.time_ns()
        for driver in self._drivers:
            driver.write(which, entries, when)

    def mark(self) -> dict[str, Any]:
        """How far the log's file has come, and what is not in it as its line is unfinished."""
        files = (driver.mark() for driver in self._drivers if isinstance(driver, JsonFile))
        unfinished = {
            NAMES[which]: data.decode(errors="surrogateescape")
            for which, data in self._partial.items()
            if data
        }
        return {**next(files, {}), "unfinished": unfinished}

    async def close(self) -> None:
        """Close all drivers."""
        for driver in self._drivers:
            await driver.close()


class JsonFile:
    """Docker's json-file format: one JSON object a line, with rotation.

    `max_size` is in bytes, `max_file` counts the current file; `attrs` go into
    every line. A disk that is full loses log lines, never the container.
    """

    def __init__(
        self,
        path: str,
        *,
        max_size: int = 0,
        max_file: int = 1,
        attrs: Mapping[str, str] | None = None,
    ) -> None:
        self._path = path
        self._max_size = max_size
        self._max_file = max(max_file, 1)
        self._attrs = {"attrs": dict(attrs)} if attrs else {}
        self._fd = -1
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        opened = os.open(self._path, flags, 0o640)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = opened
        self._size = os.fstat(self._fd).st_size

    def write(self, which: int, entries: list[bytes], when: int) -> None:
        """Part of Driver."""
        about = {"stream": NAMES[which], **self._attrs, "time": timestamp(when)}
        data = "".join(
            json.dumps({"log": entry.decode(errors="replace"), **about}) + "\n" for entry in entries
        ).encode()
        try:
            if self._max_size and self._size and self._size + len(data) > self._max_size:
                self._rotate()
            if os.write(self._fd, data) < len(data):
                os.ftruncate(self._fd, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += len(data)
        except OSError as error:
            sys.stderr.write(f"log {self._path}: {error.strerror}\n")

    def _rotate(self) -> None:
        """Begin a new file. One that is read stays whole for who has it open."""
        for number in range(self._max_file - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number}")
        if self._max_file == 1:
            os.unlink(self._path)
        self._open()

    def mark(self) -> dict[str, int]:
        """The file that is written, and its size."""
        return {"inode": os.fstat(self._fd).st_ino, "size": self._size}

    async def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _pieces(line: bytes) -> list[bytes]:
    """A line in pieces of at most 16 KiB, none of which ends within a UTF-8 character."""
    pieces = []
    while len(line) > _MAX_LINE:
        end = _MAX_LINE
        while end > _MAX_LINE - 3 and line[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]


def timestamp(when: int) -> str:
    """RFC 3339 with nanoseconds, as Docker writes it."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when // 10**9))
    return f"{whole}.{when % 10**9:09d}Z"


async def open_log(wanted: Mapping[str, Any]) -> LogSink:
    """The log that `wanted` describes.

    `path` is that of its file ("" for none), with `max_size`, `max_file` and
    `attrs`; `remote` is the receiver of `logreceivers.open_receiver`.
    Raises OSError for the file, HyperError for a receiver that does not answer.
    """
    drivers: list[Driver] = []
    if remote := wanted.get("remote"):
        from .logreceivers import open_receiver

        drivers.append(await open_receiver(remote))
    if path := wanted.get("path"):
        size, count = int(wanted.get("max_size") or 0), int(wanted.get("max_file") or 1)
        attrs = wanted.get("attrs")
        drivers.insert(0, JsonFile(path, max_size=size, max_file=count, attrs=attrs))
    return LogSink(*drivers)
