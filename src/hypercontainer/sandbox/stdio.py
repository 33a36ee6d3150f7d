"""Where the output of a process goes, and where its input comes from.

An `Output` hands each chunk to its sinks and lets the guest go on when none of
them is blocked, so the memory of a stream is bounded by its window.
"""

import asyncio
import errno
import json
import os
import sys
import time
from typing import Protocol

from ..guest.streams import OutputStream

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_MAX_LINE = 16384
# More than what a guest's pipe (64 KiB) and a window hold.
_MAX_DRAIN = 1 << 20


class Sink(Protocol):
    """Takes output of the outputs that it is attached to."""

    def blocked(self, which: int) -> bool:
        """Whether it wants no more of stdout or stderr for now; once it does again, it calls
        `Output.unblocked`."""

    def write(self, which: int, data: bytes) -> None:
        """Take a chunk of stdout (1) or stderr (2)."""

    def end(self, which: int) -> None:
        """This output is over."""


class Output:
    """One output stream of a process and its sinks.

    With `hold`, what comes before there is a sink waits for one.
    """

    def __init__(self, stream: OutputStream, which: int, *, hold: bool) -> None:
        self.which = which
        self.received = 0
        self._stream = stream
        self._hold = hold
        self._held = b""
        self._ungranted = 0
        self._drainable = 0
        self._sinks: list[Sink] = []
        self.done = asyncio.Event()
        stream.on_data = self._receive

    @property
    def waiting(self) -> bool:
        """Whether it holds for a sink, having had none yet."""
        return self._hold

    def attach(self, sink: Sink) -> None:
        """Add a sink; it gets what was held, and what comes from now on."""
        self._sinks.append(sink)
        self._hold = False
        if self._held:
            sink.write(self.which, self._held)
            self._held = b""
        if self.done.is_set():
            sink.end(self.which)
        self.unblocked()

    def detach(self, sink: Sink) -> None:
        """Remove a sink; a blocked one no longer holds the process up."""
        if sink in self._sinks:
            self._sinks.remove(sink)
        self.unblocked()

    def _receive(self, data: bytes) -> None:
        if not data:
            self.done.set()
            for sink in list(self._sinks):
                sink.end(self.which)
            return
        self.received += len(data)
        self._ungranted += len(data)
        if not self._sinks and self._hold:
            self._held += data
        for sink in list(self._sinks):
            sink.write(self.which, data)
        self.unblocked()

    def unblocked(self) -> None:
        """Let the guest send more, unless a sink is blocked or the output waits for one."""
        count = self._ungranted
        if self._held or any(sink.blocked(self.which) for sink in self._sinks):
            count = min(count, self._drainable)
            self._drainable -= count
        if count:
            self._ungranted -= count
            self._stream.grant(count)

    def drain(self) -> None:
        """The process is over: take what is left of its output, at most 1 MiB, though a sink
        is blocked, so that neither its end nor its VM's waits for a reader."""
        self._drainable = _MAX_DRAIN
        self.unblocked()


class LogSink:
    """Docker's json-file format: one JSON object a line, with rotation.

    `max_size` is in bytes, `max_file` counts the current file. A disk that is
    full loses log lines, never the container.
    """

    def __init__(self, path: str, *, max_size: int = 0, max_file: int = 1) -> None:
        self._path = path
        self._max_size = max_size
        self._max_file = max(max_file, 1)
        self._partial = {STDOUT: b"", STDERR: b""}
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def blocked(self, which: int) -> bool:
        """Part of Sink: a file takes all."""
        return False

    def write(self, which: int, data: bytes) -> None:
        """Log the lines that `data` completes; a long line is cut at 16 KiB as in Docker."""
        *lines, rest = (self._partial[which] + data).split(b"\n")
        entries = [piece for line in lines for piece in _pieces(line + b"\n")]
        *whole, self._partial[which] = _pieces(rest)
        self._append(which, entries + whole)

    def end(self, which: int) -> None:
        """Log an unfinished last line."""
        rest, self._partial[which] = self._partial[which], b""
        self._append(which, [rest] if rest else [])

    def _append(self, which: int, entries: list[bytes]) -> None:
        if not entries:
            return
        stamp = _now()
        data = "".join(
            json.dumps(
                {"log": entry.decode(errors="replace"), "stream": _NAMES[which], "time": stamp}
            )
            + "\n"
            for entry in entries
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
        for number in range(self._max_file - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number}")
        if self._max_file == 1:
            os.truncate(self._path, 0)
        full = self._fd
        self._open()
        os.close(full)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)


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


def _now() -> str:
    """RFC 3339 with nanoseconds, as Docker writes it."""
    ns = time.time_ns()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9))
    return f"{whole}.{ns % 10**9:09d}Z"
