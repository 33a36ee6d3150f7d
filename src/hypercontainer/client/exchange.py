"""Feeding a process and collecting its output, both at once."""

from __future__ import annotations

import select
import time

from .streams import STDERR, STDOUT, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .streams import RawStream

_AFTER_KILL = 60.0
"""Seconds for the end of a stream whose process was killed."""


class Output:
    """What a process wrote, and whether it was stopped or cut short."""

    __slots__ = ("parts", "timed_out", "truncated")

    def __init__(self) -> None:
        self.parts = {STDOUT: bytearray(), STDERR: bytearray()}
        self.timed_out = False
        self.truncated = False

    def take(self, which: int, part: memoryview, limit: int) -> None:
        """Keep a part of a stream, up to `limit` bytes of each."""
        kept = self.parts[which]
        room = limit - len(kept)
        if len(part) > room:
            self.truncated = True
            part = part[:room]
        kept += part


def exchange(
    stream: RawStream,
    input: bytes | None,
    *,
    limit: int,
    timeout: float | None = None,
    kill: Callable[[], None],
) -> Output:
    """Send `input` and the end of stdin; returns all of stdout and stderr.

    Without `input` nothing is sent and stdin is not closed: the process has none. What is
    over `limit` bytes of a stream is read and dropped. After `timeout` seconds `kill` is called.
    """
    frames, output = Demultiplexer(), Output()
    left = memoryview(input or b"")
    if input is not None and not left:
        stream.close_stdin()
    poller = select.poll()
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        if not stream.buffered:
            poller.register(stream, select.POLLIN | (select.POLLOUT if left else 0))
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = poller.poll(None if wait is None else int(wait * 1000) + 1)
            if deadline is not None and time.monotonic() >= deadline:
                if output.timed_out:
                    return output
                output.timed_out = True
                deadline = time.monotonic() + _AFTER_KILL
                kill()
                continue
            events = ready[0][1] if ready else 0
            if events & select.POLLOUT and left:
                left = _send(stream, left)
            if not events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                continue
        data = stream.read()
        if not data:
            return output
        for which, part in frames.feed(data):
            output.take(which, part, limit)


def _send(stream: RawStream, left: memoryview) -> memoryview:
    try:
        left = left[stream.write_some(left) :]
    except (BrokenPipeError, ConnectionResetError):
        left = left[:0]
    if not left:
        stream.close_stdin()
    return left
