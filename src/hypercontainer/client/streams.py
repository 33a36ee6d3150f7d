"""Streams of processes: the hijacked connection and Docker's stdcopy frames."""

from __future__ import annotations

import socket

from ..errors import HyperError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT, STDERR = 1, 2
FRAMED = "hyper-frames"
"""The Upgrade by which stdin is sent in frames too (of stream 0; an empty one is its end)."""
_HEADER = 8
_CHUNK = 1 << 18


class Demultiplexer:
    """Takes stdcopy frames apart, however they are cut.

    A frame is an 8-byte header (stream 1 or 2, three zero bytes, big-endian
    length) and the data; that of Docker's attach and logs.
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        self._stream = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """The parts of streams in `data`, in order. Raises HyperError for a bad frame."""
        view = memoryview(data)
        while view:
            if not self._left:
                missing = _HEADER - len(self._header)
                self._header += view[:missing]
                view = view[missing:]
                if len(self._header) == _HEADER:
                    self._begin_frame()
                continue
            part, view = view[: self._left], view[self._left :]
            self._left -= len(part)
            yield self._stream, part

    def _begin_frame(self) -> None:
        self._stream = self._header[0]
        if self._stream not in (STDOUT, STDERR) or any(self._header[1:4]):
            raise HyperError(f"hyperd sent a bad stream frame: {self._header.hex()}")
        self._left = int.from_bytes(self._header[4:], "big")
        self._header.clear()

    @property
    def clean(self) -> bool:
        """Whether the data ended with a frame's end."""
        return not self._left and not self._header


class RawStream:
    """Both ways of a process: a socket that was HTTP before.

    Reading gives b"" when the process is over and all its output was read.
    Closing detaches; the process goes on.
    """

    def __init__(self, sock: socket.socket, early: bytes = b"") -> None:
        self._socket = sock
        self._early = early

    def fileno(self) -> int:
        """For select and poll; look at `buffered` first."""
        return self._socket.fileno()

    @property
    def buffered(self) -> bool:
        """Whether `read` has data already."""
        return bool(self._early)

    def read(self, size: int = _CHUNK) -> bytes:
        """Some output; b"" at its end."""
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        try:
            return self._socket.recv(size)
        except ConnectionResetError as error:
            raise HyperError("hyperd closed the stream") from error

    def write(self, data: bytes) -> None:
        """Send all of `data` to stdin. Raises BrokenPipeError when nobody reads it."""
        self._socket.sendall(data)

    def write_some(self, data: bytes | memoryview) -> int:
        """Send what is taken without waiting; returns how many bytes."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def close_stdin(self) -> None:
        """The end of stdin; output still comes."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def output(self, *, tty: bool = False) -> Iterator[tuple[int, bytes]]:
        """All output as (1 for stdout or 2 for stderr, data); a terminal has stdout only."""
        frames = Demultiplexer()
        while data := self.read():
            if tty:
                yield STDOUT, data
            else:
                for stream, part in frames.feed(data):
                    yield stream, bytes(part)

    def close(self) -> None:
        """Detach."""
        self._socket.close()

    def __enter__(self) -> RawStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
