"""Feeding a process and collecting its output, both at once."""

from __future__ import annotations

import select

from .streams import STDOUT, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .streams import RawStream


def exchange(stream: RawStream, input: bytes | None) -> tuple[bytes, bytes]:
    """Send `input` and the end of stdin; returns all of stdout and stderr.

    Without `input` nothing is sent and stdin is not closed: the process has none.
    """
    frames = Demultiplexer()
    output = {STDOUT: bytearray(), 2: bytearray()}
    left = memoryview(input or b"")
    if input is not None and not left:
        stream.close_stdin()
    poller = select.poll()
    while True:
        if not stream.buffered:
            poller.register(stream, select.POLLIN | (select.POLLOUT if left else 0))
            ((_, events),) = poller.poll()
            if events & select.POLLOUT and left:
                try:
                    left = left[stream.write_some(left) :]
                except (BrokenPipeError, ConnectionResetError):
                    left = left[:0]
                if not left:
                    stream.close_stdin()
            if not events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                continue
        data = stream.read()
        if not data:
            return bytes(output[STDOUT]), bytes(output[2])
        for which, part in frames.feed(data):
            output[which] += part
