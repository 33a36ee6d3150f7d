"""The control channel: requests, their answers, and the guest's events."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..errors import (
    BadRequest,
    Conflict,
    HyperError,
    NotFound,
    NotSupported,
    ProgramError,
    Timeout,
    VMError,
)
from . import protocol
from .line import PortWriter
from .protocol import Code, ProtocolError

EventHandler = Callable[[dict[str, Any]], None]
_MAX_TEXT = 4096


class ControlConnection(asyncio.Protocol):
    """Speaks for the host on `sh.hyper.channel.0`.

    Answers may come in any order; each is matched by its `seq`. When the
    channel breaks, every waiter gets a VMError; `on_broken` is told when it
    was the guest that broke the protocol.
    """

    def __init__(self, on_event: EventHandler, on_broken: Callable[[str], None]) -> None:
        self._decoder = protocol.MessageDecoder()
        self._on_event = on_event
        self._on_broken = on_broken
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._seq = 0
        self._port = PortWriter()
        self._broken: VMError | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[dict[str, Any]] = loop.create_future()

    @classmethod
    async def open(
        cls, sock: socket.socket, on_event: EventHandler, on_broken: Callable[[str], None]
    ) -> "ControlConnection":
        """Take over our end of the control channel."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(on_event, on_broken), sock=sock)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._port.transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        try:
            for code, payload in self._decoder.feed(data):
                self._receive(code, payload)
        except ProtocolError as error:
            reason = f"the guest broke the protocol: {error}"
            self.fail(reason)
            self._on_broken(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self.fail("the virtual machine is gone")

    def fail(self, reason: str) -> None:
        """Give up the channel: every waiter, now and later, gets `reason`."""
        if self._broken is not None:
            return
        self._broken = VMError(reason)
        for future in [self.ready, *self._pending.values()]:
            if not future.done():
                future.set_exception(self._broken)
                future.exception()
        self._pending.clear()
        if self._port.transport is not None:
            self._port.transport.abort()

    def _receive(self, code: int, payload: dict[str, Any]) -> None:
        if code == Code.READY:
            self._greet(payload)
        elif code in (Code.ACK, Code.ERROR):
            seq = payload.get("seq")
            future = self._pending.pop(seq, None) if isinstance(seq, int) else None
            if future is None or future.done():
                return
            if code == Code.ACK:
                future.set_result(payload)
            else:
                future.set_exception(_error(payload))
        elif code == Code.PROCESSEVENT:
            self._on_event(payload)
        elif code == Code.LINEGRANT:
            self._port.granted(payload.get("count"))

    def _greet(self, payload: dict[str, Any]) -> None:
        if self.ready.done():
            return
        version = payload.get("protocol")
        if version != protocol.VERSION:
            self.fail(
                f"hyperstart speaks protocol {str(version)[:20]}, this host"
                f" {protocol.VERSION}: build the initrd again with `make initrd`"
            )
            return
        self._port.bound(payload)
        self.ready.set_result(payload)

    def assume_ready(self, greeting: dict[str, Any]) -> None:
        """The guest is a clone of one that greeted so."""
        self._greet(greeting)

    async def request(
        self, code: Code, payload: dict[str, Any] | None = None, *, timeout: float
    ) -> dict[str, Any]:
        """Send a request and return the guest's ACK.

        Raises the guest's error, or VMError when the VM is gone or did not
        answer in `timeout` seconds.
        """
        await self._open.wait()
        if self._broken is not None:
            raise self._broken
        self._seq += 1
        seq = self._seq
        try:
            message = protocol.encode_message(code, {"seq": seq, **(payload or {})})
        except ProtocolError as error:
            raise BadRequest(f"the container's configuration is too large: {error}") from error
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[seq] = future
        self._idle.clear()
        self._port.write(message)
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError as error:
            raise VMError(f"the guest did not answer {code.name} in {timeout:.0f} s") from error
        finally:
            self._pending.pop(seq, None)
            if not self._pending:
                self._idle.set()

    @asynccontextmanager
    async def quiet(self, timeout: float) -> AsyncIterator[None]:
        """While the body runs no request is under way; those that come wait for its end.

        Raises Timeout when those that are there take longer than `timeout` seconds.
        """
        self._open.clear()
        try:
            try:
                await asyncio.wait_for(self._idle.wait(), timeout)
            except TimeoutError:
                raise Timeout(
                    f"the guest was busy with something else for {timeout:.0f} s"
                ) from None
            yield
        finally:
            self._open.set()

    @property
    def transport(self) -> asyncio.Transport | None:
        """Our end of the channel."""
        return self._port.transport

    def state(self) -> bytes:
        """What a copy of this end needs to go on with a copy of the guest."""
        return self._decoder.rest

    def restore(self, state: bytes, greeting: dict[str, Any]) -> None:
        """Be the end of a guest that is a copy, of which this is the `state`."""
        self._greet(greeting)
        self.data_received(state)


def _error(payload: dict[str, Any]) -> HyperError:
    code = payload.get("code")
    message = str(payload.get("message", "the guest gave no reason"))[:_MAX_TEXT]
    message = "".join(c if c.isprintable() else "?" for c in message)
    if code in (126, 127):
        return ProgramError(message, code)
    kinds: dict[int, type[HyperError]] = {3: NotFound, 17: Conflict, 22: BadRequest}
    if code == 38:
        return NotSupported(f"the guest does not know the request: {message}")
    return kinds.get(code, HyperError)(message) if isinstance(code, int) else HyperError(message)
