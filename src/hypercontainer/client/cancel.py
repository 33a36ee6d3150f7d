"""Ending a call from another thread: what makes an asyncio task's cancellation reach a socket."""

from __future__ import annotations

import socket
from contextvars import ContextVar

from ..errors import HyperError


class Cancelled(HyperError):
    """The call was ended by its caller."""

    code = "cancelled"
    status = 499


class Scope:
    """The connections of one call. Once cancelled, they end and no further one is opened."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._cancelled = False

    def add(self, sock: socket.socket) -> None:
        """Take a connection in. Raises Cancelled."""
        self._sockets.append(sock)
        if self._cancelled:
            raise Cancelled("the call was cancelled")

    def cancel(self) -> None:
        """End the call, from any thread."""
        self._cancelled = True
        for sock in list(self._sockets):
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # closed already

    def forget(self) -> None:
        """Let what clears away after a cancelled call do so."""
        self._sockets.clear()
        self._cancelled = False


_current: ContextVar[Scope | None] = ContextVar("scope", default=None)


def enter(scope: Scope) -> None:
    """Make a scope that of the current context."""
    _current.set(scope)


def track(sock: socket.socket) -> None:
    """Note a new connection. Raises Cancelled."""
    if scope := _current.get():
        scope.add(sock)


def forget() -> None:
    """What follows clears away: it is not cancelled."""
    if scope := _current.get():
        scope.forget()
