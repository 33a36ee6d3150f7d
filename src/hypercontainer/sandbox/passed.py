"""Streams of a process on file descriptors that a caller passed along.

Pipes and terminals are opened anew through /proc, so that making them
non-blocking changes nothing for their other holders. A file is not: its
position and its append mode are the caller's, and it never blocks.
"""

import asyncio
import os
import stat
import sys
import termios
import tty

from .containers import Process
from .stdio import STDERR, STDOUT

_CHUNK = 65536


def _reopen(fd: int, flags: int) -> int:
    """A non-blocking descriptor of our own; a socket, which can't be opened anew, is copied."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return os.dup(fd)
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        copy = os.dup(fd)
        os.set_blocking(copy, False)
        return copy


class DescriptorSink:
    """Output of a process to one descriptor for stdout and one for stderr."""

    def __init__(self, process: Process, fds: dict[int, int]) -> None:
        self._process = process
        self._fds = {which: _reopen(fd, os.O_WRONLY) for which, fd in fds.items()}
        self._pending: dict[int, bytearray] = {which: bytearray() for which in fds}
        self._blocked: set[int] = set()
        self._ending: set[int] = set()
        self.closed = asyncio.Event()
        self.lost = asyncio.Event()
        if not fds:
            self.closed.set()

    def begin(self) -> None:
        """Start to take output."""
        for output in self._process.outputs:
            output.attach(self)

    def blocked(self, which: int) -> bool:
        """Part of Sink."""
        return which in self._blocked

    def write(self, which: int, data: bytes) -> None:
        """Part of Sink."""
        if which in self._fds:
            self._pending[which] += data
            self._flush(which)

    def _flush(self, which: int) -> None:
        fd, pending = self._fds[which], self._pending[which]
        loop = asyncio.get_running_loop()
        while pending:
            try:
                del pending[: os.write(fd, pending[:_CHUNK])]
            except BlockingIOError:
                self._blocked.add(which)
                loop.add_writer(fd, self._flush, which)
                return
            except OSError:
                pending.clear()
                self.lost.set()
        if which in self._blocked:
            loop.remove_writer(fd)
            self._blocked.discard(which)
            for output in self._process.outputs:
                output.unblocked()
        if which in self._ending:
            self._close(which)

    def end(self, which: int) -> None:
        """Part of Sink."""
        if which in self._fds:
            self._ending.add(which)
            if not self._pending[which]:
                self._close(which)

    def _close(self, which: int) -> None:
        asyncio.get_running_loop().remove_writer(self._fds[which])
        os.close(self._fds.pop(which))
        if not self._fds:
            self.closed.set()


class DescriptorSource:
    """Input of a process from a descriptor; a terminal's end is no end of file."""

    def __init__(self, process: Process, fd: int) -> None:
        assert process.stdin is not None
        self._target = process.stdin
        self._fd = _reopen(fd, os.O_RDONLY)
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)

    async def feed(self) -> None:
        """Pass input on until its end or the process'."""
        try:
            while room := await self._target.writable():
                data = await self._read(room)
                if not data:
                    self._target.close()
                    return
                self._target.write(data)
        finally:
            os.close(self._fd)

    async def _read(self, room: int) -> bytes:
        while True:
            try:
                return os.read(self._fd, room)
            except BlockingIOError:
                await self._readable()
            except OSError:
                return b""

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def arrived() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(self._fd, arrived)
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)


class Streams:
    """The descriptors of one process: three of them, or one terminal."""

    def __init__(self, process: Process, names: list[str], fds: list[int]) -> None:
        given = dict(zip(names, fds, strict=True))
        self.terminal = os.dup(given["terminal"]) if "terminal" in given else -1
        source = given.get("stdin", self.terminal)
        if self.terminal >= 0:
            try:
                tty.setraw(self.terminal, termios.TCSANOW)
            except termios.error as error:
                sys.stderr.write(f"terminal of {process.pid}: {error}\n")
            outputs = {STDOUT: self.terminal}
        else:
            outputs = {
                which: given[name]
                for which, name in ((STDOUT, "stdout"), (STDERR, "stderr"))
                if name in given
            }
        self._sink = DescriptorSink(process, outputs)
        self._source = (
            DescriptorSource(process, source) if process.stdin is not None and source >= 0 else None
        )

    def begin(self) -> asyncio.Task[None] | None:
        """Start to carry; returns the task that feeds stdin, if there is one."""
        self._sink.begin()
        return asyncio.create_task(self._source.feed()) if self._source else None

    def window_size(self) -> tuple[int, int]:
        """Rows and columns of the terminal."""
        return termios.tcgetwinsize(self.terminal)

    async def flush(self) -> None:
        """Wait, as long as it takes, until the output was taken or its reader is gone."""
        await self._sink.closed.wait()

    async def lost(self) -> None:
        """Wait until output could not be delivered, since its reader is gone."""
        await self._sink.lost.wait()

    def close(self) -> None:
        """Let the terminal go."""
        if self.terminal >= 0:
            os.close(self.terminal)
