"""Where the output of a process goes, and where its input comes from.

An `Output` hands each chunk to its sinks and lets the guest go on when none of
them is blocked, so the memory of a stream is bounded by its window.
"""

import asyncio
from typing import Protocol

from ..guest.streams import OutputStream

STDOUT, STDERR = 1, 2
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
        self.stream = stream
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
            self.stream.grant(count)

    def drain(self) -> None:
        """The process is over: take what is left of its output, at most 1 MiB, though a sink
        is blocked, so that neither its end nor its VM's waits for a reader."""
        self._drainable = _MAX_DRAIN
        self.unblocked()
