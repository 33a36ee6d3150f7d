"""Streams over TLS as a plain socket, which has what TLS lacks: a half-close, and poll.

A thread carries between one end of a socket pair, whose other end is given out, and the
connection, on which stdin goes in frames (of stream 0; an empty one is its end).
"""

from __future__ import annotations

import select
import socket
import ssl
import threading

_CHUNK = 1 << 16
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


def tunnel(connection: ssl.SSLSocket, early: bytes) -> socket.socket:
    """The plain end of a connection, which is this thread's no longer; `early` came already."""
    ours, theirs = socket.socketpair()
    pump = _Pump(connection, theirs, early)
    threading.Thread(target=pump.run, name="hypercontainer-tls", daemon=True).start()
    return ours


def frame(data: bytes) -> bytes:
    """A frame of stdin."""
    return bytes(4) + len(data).to_bytes(4, "big") + data


class _Pump:
    def __init__(self, connection: ssl.SSLSocket, local: socket.socket, early: bytes) -> None:
        self._connection = connection
        self._local = local
        self._up = b""
        self._down = early
        self._input_ended = False
        self._output_ended = False
        connection.setblocking(False)
        local.setblocking(False)

    def run(self) -> None:
        """Carry until the process has ended, or the plain end was closed."""
        try:
            while not (self._output_ended and not self._down):
                connection_ready, local_ready = self._wait()
                if connection_ready and not self._down:
                    self._receive()
                if self._down:
                    self._hand_out()
                if local_ready and not self._up and not self._take_in():
                    return
                if self._up:
                    self._send()
        except OSError:
            pass  # either side has gone
        finally:
            self._local.close()
            self._connection.close()

    def _wait(self) -> tuple[bool, bool]:
        """Wait; whether the connection and the plain end may have something to read."""
        poller = select.poll()
        wanted = 0 if self._down or self._output_ended else select.POLLIN
        poller.register(self._connection, wanted | (select.POLLOUT if self._up else 0))
        reads = not self._up  # after the end of input: to notice a close
        local = select.POLLIN if reads and not self._input_ended else 0
        local |= select.POLLOUT if self._down else 0
        if reads or local:
            poller.register(self._local, local)
        buffered = bool(wanted) and self._connection.pending() > 0
        found = dict(poller.poll(0 if buffered else None))
        from_connection = found.get(self._connection.fileno(), 0) & _READABLE
        return buffered or bool(from_connection), bool(
            found.get(self._local.fileno(), 0) & _READABLE
        )

    def _receive(self) -> None:
        try:
            self._down = self._connection.recv(_CHUNK)
        except _AGAIN:
            return
        self._output_ended = not self._down

    def _hand_out(self) -> None:
        try:
            self._down = self._down[self._local.send(self._down) :]
        except BlockingIOError:
            pass

    def _take_in(self) -> bool:
        """Take what there is of stdin; false when the plain end was closed."""
        if self._input_ended:
            return False  # nothing but a close is told then
        try:
            data = self._local.recv(_CHUNK)
        except BlockingIOError:
            return True
        if not data:
            if self._closed():
                return False
            self._input_ended = True
        self._up = frame(data)
        return True

    def _closed(self) -> bool:
        poller = select.poll()
        poller.register(self._local, 0)
        return bool(poller.poll(0))

    def _send(self) -> None:
        try:
            self._up = self._up[self._connection.send(self._up) :]
        except _AGAIN:
            pass
