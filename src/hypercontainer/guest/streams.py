"""The stream channel: every process' stdin, stdout and stderr over one port.

Flow control is per stream (docs/guest-protocol.md): a reader that blocks stops
its own stream and no other.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from . import protocol
from .line import PortWriter
from .protocol import ProtocolError

# What is granted on no stream is granted on the port itself.
_PORT = 0


class OutputStream:
    """What the guest sends on one stream, handed to `on_data` as it comes.

    The consumer calls `grant` for what it has passed on; the guest is never
    more than a window ahead of that. Empty data is the end.
    """

    def __init__(self, channel: "StreamChannel", number: int) -> None:
        self.number = number
        self.on_data: Callable[[bytes], None] = lambda data: None
        self._channel = channel
        self._window = protocol.INITIAL_WINDOW
        self._ungranted = 0
        self.ended = False

    def receive(self, data: bytes) -> None:
        """Take a data frame. Raises ProtocolError when the guest overran its window."""
        if self.ended:
            return
        if len(data) > self._window:
            raise ProtocolError(f"stream {self.number} overran its window")
        self._window -= len(data)
        if not data:
            self.ended = True
        self.on_data(data)

    def grant(self, count: int) -> None:
        """Let the guest send `count` bytes more; sent when it is worth a frame."""
        self._ungranted += count
        if self.ended or self._ungranted < protocol.INITIAL_WINDOW // 4 or self._channel.held:
            return
        self._window += self._ungranted
        self._channel.send(protocol.encode_window(self.number, self._ungranted))
        self._ungranted = 0

    def state(self) -> dict[str, Any]:
        """What a copy of this end needs to go on with a copy of the guest."""
        return {"number": self.number, "window": self._window, "ended": self.ended}

    def restore(self, state: dict[str, Any]) -> None:
        """Be the end of a stream of which this is the `state`; its reader has nothing of it."""
        self.ended = bool(state["ended"])
        self._window = int(state["window"])
        self.grant(protocol.INITIAL_WINDOW - self._window)


class InputStream:
    """What the host sends on one stream, as far as the guest has granted."""

    def __init__(self, channel: "StreamChannel", number: int) -> None:
        self.number = number
        self._channel = channel
        self._window = protocol.INITIAL_WINDOW
        self._changed = asyncio.Event()
        self.closed = False

    def granted(self, count: int) -> None:
        """The guest lets us send `count` bytes more.

        Raises ProtocolError when that is more than it took, which would make us
        queue without bound for a guest that does not read.
        """
        if self._window + count > protocol.INITIAL_WINDOW:
            raise ProtocolError(f"stream {self.number} was granted more than a window")
        self._window += count
        self._changed.set()

    async def writable(self) -> int:
        """Wait until the guest takes more; returns how many bytes (0 once closed)."""
        while (self._window == 0 or self._channel.held) and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        return 0 if self.closed else min(self._window, protocol.MAX_DATA)

    def write(self, data: bytes) -> None:
        """Send at most as much as `writable` said."""
        if self.closed or not data:
            return
        assert len(data) <= self._window
        self._window -= len(data)
        self._channel.send(protocol.encode_data(self.number, data))

    def close(self) -> None:
        """End of file; what comes later is dropped."""
        if not self.closed:
            self.closed = True
            self._changed.set()
            self._channel.send(protocol.encode_data(self.number, b""))

    def wake(self) -> None:
        """Let those who wait look again whether they may write."""
        self._changed.set()

    def state(self) -> dict[str, Any]:
        """What a copy of this end needs to go on with a copy of the guest."""
        end = protocol.encode_data(self.number, b"")
        closed = self.closed and not self._channel.keeps(end)
        return {"window": self._window, "closed": closed}

    def restore(self, state: dict[str, Any]) -> None:
        """Be the end of a stream of which this is the `state`."""
        self._window, self.closed = int(state["window"]), bool(state["closed"])

    def abandon(self) -> None:
        """The process is over: wake the writers without sending anything."""
        self.closed = True
        self._changed.set()


class StreamChannel(asyncio.Protocol):
    """Speaks for the host on `sh.hyper.channel.1`."""

    def __init__(self, on_broken: Callable[[str], None]) -> None:
        self._decoder = protocol.FrameDecoder()
        self._outputs: dict[int, OutputStream] = {}
        self._inputs: dict[int, InputStream] = {}
        self._next = 1
        self._port = PortWriter()
        self._on_broken = on_broken
        self.held = False
        self._waiting: list[bytes] = []

    @classmethod
    async def open(cls, sock: socket.socket, on_broken: Callable[[str], None]) -> "StreamChannel":
        """Take over our end of the stream channel."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(on_broken), sock=sock)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._port.transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        try:
            for number, content in self._decoder.feed(data):
                self._receive(number, content)
        except ProtocolError as error:
            self._on_broken(f"the guest broke the protocol: {error}")

    def _receive(self, number: int, content: bytes | int) -> None:
        if isinstance(content, int) and number == _PORT:
            self._port.granted(content)
        elif isinstance(content, int):
            if (target := self._inputs.get(number)) is not None:
                target.granted(content)
        elif (source := self._outputs.get(number)) is not None:
            source.receive(content)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol: ends every stream."""
        for source in list(self._outputs.values()):
            if not source.ended:
                source.ended = True
                source.on_data(b"")
        for target in self._inputs.values():
            target.abandon()

    def bound(self, greeting: dict[str, Any]) -> None:
        """Send no more at once than the port holds by the guest's READY."""
        self._port.bound(greeting)

    def new_number(self) -> int:
        """A stream number that was never used in this VM."""
        self._next += 1
        return self._next - 1

    def output(self, number: int) -> OutputStream:
        """Register to receive stream `number`."""
        return self._outputs.setdefault(number, OutputStream(self, number))

    def input(self, number: int) -> InputStream:
        """Register to send on stream `number`."""
        return self._inputs.setdefault(number, InputStream(self, number))

    def forget(self, number: int) -> None:
        """Drop a stream that is over."""
        self._outputs.pop(number, None)
        if (target := self._inputs.pop(number, None)) is not None:
            target.abandon()

    def hold(self) -> None:
        """Send nothing for a while: neither input nor leave to send more."""
        self.held = True

    def keeps(self, frame: bytes) -> bool:
        """Whether that frame waits for `release`."""
        return frame in self._waiting

    def release(self) -> None:
        """Send again, and what waited."""
        self.held = False
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            self.send(frame)
        for output in self._outputs.values():
            output.grant(0)
        for target in self._inputs.values():
            target.wake()

    @property
    def transport(self) -> asyncio.Transport | None:
        """Our end of the channel."""
        return self._port.transport

    def state(self) -> tuple[bytes, int]:
        """What a copy of this end needs: the beginning of a frame, and the next new number."""
        return self._decoder.rest, self._next

    def restore(self, rest: bytes, following: int) -> None:
        """Be the end of a guest that is a copy, of which this is the `state`."""
        self._next = following
        self.data_received(rest)

    def send(self, frame: bytes) -> None:
        """Write a frame; windows bound what can be queued."""
        if self.held:
            self._waiting.append(frame)
        else:
            self._port.write(frame)
