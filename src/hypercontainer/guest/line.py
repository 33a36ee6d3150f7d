"""Our end of a port, and how much of what we send may be under way in it."""

import asyncio
from typing import Any

from .protocol import ProtocolError

_MAX_WINDOW = 65536


class PortWriter:
    """Writes to a port of the guest, as far as the guest has room.

    A virtio-serial port keeps what the guest has not read. A serial line loses it, or stands still
    for good (User Mode Linux): its guest says at the start how much it holds, and grants what it
    has read. What is beyond that waits here.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._window = 0
        self._room = 0
        self._waiting = bytearray()

    def bound(self, greeting: dict[str, Any]) -> None:
        """Keep to the window that the guest's READY has, if any. Raises ProtocolError."""
        window = greeting.get("window", 0)
        if not isinstance(window, int) or not 0 <= window <= _MAX_WINDOW:
            raise ProtocolError(f"a window of {str(window)[:20]} bytes")
        self._window = self._room = window

    def granted(self, count: object) -> None:
        """The guest has read so many bytes. Raises ProtocolError when it had not so many."""
        if not isinstance(count, int) or not 0 <= count <= self._window - self._room:
            raise ProtocolError(f"a port was granted {str(count)[:20]} bytes")
        self._room += count
        self._send()

    def write(self, data: bytes) -> None:
        """Write it, or as much as there is room for, and the rest in time."""
        if self.transport is None or self.transport.is_closing():
            return
        if not self._window:
            self.transport.write(data)
            return
        self._waiting += data
        self._send()

    def _send(self) -> None:
        size = min(self._room, len(self._waiting))
        if size and self.transport is not None:
            self._room -= size
            self.transport.write(bytes(self._waiting[:size]))
            del self._waiting[:size]
