"""A connection that carries the streams of one process."""

import asyncio
import json
import select
import socket
import struct
from typing import Any

from ..errors import BadRequest, Conflict
from .containers import Process

_HEADER = struct.Struct(">BxxxI")
_MAX_PENDING = 65536
_DELIVERY_STEP = 0.02


class Attachment(asyncio.Protocol):
    """Output to the peer, input from it.

    Output is raw for a terminal, else in Docker's stdcopy frames (8-byte
    header: stream, three zero bytes, big-endian length). The end of what the
    peer sends closes stdin if `close_stdin`, but not its death.
    """

    def __init__(self, process: Process, *, stdin: bool, close_stdin: bool) -> None:
        self._blocked = False
        self._process = process
        self._target = process.stdin if stdin else None
        self._close_stdin = close_stdin
        self._transport: asyncio.Transport | None = None
        self._pending = bytearray()
        self._eof = False
        self._arrived = asyncio.Event()
        self._ended = 0
        self.closed = asyncio.Event()

    @classmethod
    async def open(
        cls, sock: socket.socket, process: Process, *, stdin: bool, close_stdin: bool
    ) -> "Attachment":
        """Give the connection to the process. Raises BadRequest or Conflict."""
        if stdin and process.stdin is None:
            raise BadRequest("stdin is not open: the process was created without it")
        if process.exiting and not any(o.waiting for o in process.outputs):
            raise Conflict("the process has ended already")
        loop = asyncio.get_running_loop()
        _, attachment = await loop.create_connection(
            lambda: cls(process, stdin=stdin, close_stdin=close_stdin), sock=sock
        )
        return attachment

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_MAX_PENDING)

    def begin(self, answer: dict[str, Any]) -> None:
        """Send the answer, and start to carry: output that waited comes first."""
        if self._transport is not None:
            self._transport.write(json.dumps(answer).encode() + b"\n")
        for output in self._process.outputs:
            output.attach(self)

    async def feed(self) -> None:
        """Pass input on, as far as the process takes it, until the peer or the process ends."""
        target = self._target
        if target is None:
            return
        while not target.closed:
            await self._arrived.wait()
            if self._pending:
                room = await target.writable()
                chunk = bytes(self._pending[:room])
                del self._pending[:room]
                target.write(chunk)
                if not self._pending and self._transport is not None:
                    self._transport.resume_reading()
            elif self._eof:
                if self._close_stdin and not self._gone():
                    target.close()
                return
            else:
                self._arrived.clear()
        self._pending.clear()
        if self._transport is not None:
            self._transport.resume_reading()

    def _gone(self) -> bool:
        """Whether the peer closed both ways: it has died, or left without ending the input."""
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is None or sock.fileno() < 0:
            return True
        poller = select.poll()
        poller.register(sock.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poller.poll(0))

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        if self._target is None or self._target.closed:
            return
        self._pending += data
        self._arrived.set()
        if len(self._pending) >= _MAX_PENDING and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Part of asyncio.Protocol: the peer writes no more, and may still read."""
        self._eof = True
        self._arrived.set()
        return self._ended < len(self._process.outputs)

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._blocked = False
        for output in self._process.outputs:
            output.unblocked()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._eof = True
        self._arrived.set()
        self.closed.set()
        for output in self._process.outputs:
            output.detach(self)

    def blocked(self, which: int) -> bool:
        """Part of Sink: stdout and stderr share the connection."""
        return self._blocked

    async def delivered(self) -> None:
        """Wait, as long as it takes, until the peer has taken all or is gone."""
        while not self.closed.is_set() and self._transport is not None:
            if not self._transport.get_write_buffer_size():
                return
            await asyncio.sleep(_DELIVERY_STEP)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def write(self, which: int, data: bytes) -> None:
        """Part of Sink."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._process.terminal:
            self._transport.write(_HEADER.pack(which, len(data)))
        self._transport.write(data)

    def end(self, which: int) -> None:
        """Part of Sink: once every output has ended, send the rest and the end.

        A peer that is still sending would lose what it has not read if the
        connection were closed; it closes it itself.
        """
        self._ended += 1
        if self._ended < len(self._process.outputs) or self._transport is None:
            return
        if self._eof:
            self._transport.close()
        else:
            self._transport.write_eof()
