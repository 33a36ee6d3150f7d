"""The loop between our standard files and a process: one poll, no threads, bounded memory."""

from __future__ import annotations

import os
import select

from ..client.detach import DetachKeys, parse_keys
from ..client.streams import STDERR, STDOUT, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..client.streams import RawStream
    from .signals import SignalPipe

_CHUNK = 65536
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Relay:
    """Carries a process' streams until its output ends or the detach keys are pressed.

    `stdin` is the file to read from, None to leave it alone. `on_signal` gets what
    comes over `signals`. Output is read only as fast as ours is taken, input only as
    fast as the process takes it.
    """

    def __init__(
        self,
        stream: RawStream,
        *,
        tty: bool,
        stdin: int | None,
        signals: SignalPipe,
        on_signal: Callable[[int], None],
        outputs: Collection[int] = (STDOUT, STDERR),
        detach_keys: str = "",
    ) -> None:
        self._stream = stream
        self._frames = None if tty else Demultiplexer()
        self._keys = DetachKeys(parse_keys(detach_keys)) if tty else None
        self._stdin = stdin
        self._pending = memoryview(b"")
        self._signals = signals
        self._on_signal = on_signal
        self._outputs = outputs

    def run(self) -> bool:
        """Returns whether it ended by the detach keys. Raises BrokenPipeError for our output."""
        while True:
            ready = {} if self._stream.buffered else dict(self._poll())
            if ready.get(self._signals.fileno()):
                for signum in self._signals.take():
                    self._on_signal(signum)
            if self._stdin is not None and ready.get(self._stdin) and self._read_stdin():
                return True
            events = ready.get(self._stream.fileno(), 0)
            if events & select.POLLOUT:
                self._send()
            if (events & _READABLE or self._stream.buffered) and not self._read_stream():
                return False

    def _poll(self) -> list[tuple[int, int]]:
        poller = select.poll()
        poller.register(self._signals, select.POLLIN)
        poller.register(self._stream, select.POLLIN | (select.POLLOUT if self._pending else 0))
        if self._stdin is not None and not self._pending:
            poller.register(self._stdin, select.POLLIN)
        return poller.poll()

    def _read_stdin(self) -> bool:
        assert self._stdin is not None
        try:
            data = os.read(self._stdin, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._stdin = None
            self._stream.close_stdin()
            return False
        detach = False
        if self._keys:
            data, detach = self._keys.feed(data)
        self._pending = memoryview(data)
        self._send()
        return detach

    def _send(self) -> None:
        try:
            self._pending = self._pending[self._stream.write_some(self._pending) :]
        except (BrokenPipeError, ConnectionResetError):
            self._pending = self._pending[:0]
            self._stdin = None

    def _read_stream(self) -> bool:
        data = self._stream.read()
        if self._frames is None:
            write_all(STDOUT, memoryview(data))
        else:
            for which, part in self._frames.feed(data):
                if which in self._outputs:
                    write_all(which, part)
        return bool(data)


def write_all(fd: int, data: memoryview) -> None:
    """Write everything, also to a file that somebody made non-blocking."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
