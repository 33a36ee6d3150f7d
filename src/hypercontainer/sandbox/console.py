"""The guest's console: a bounded log file and the lines that an error shows."""

import asyncio
import os
import socket

_MAX_FILE = 256 * 1024
_TAIL = 8192
_TAIL_LINES = 12


class ConsoleLog(asyncio.Protocol):
    """Copies the console to `path`, keeping at most two files of 256 KiB, the older as `.1`.

    With a path of "" it only keeps the last lines, until `move` gives it a file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._tail = b""
        self._open()

    @classmethod
    async def open(cls, sock: socket.socket, path: str) -> "ConsoleLog":
        """Take over our end of the console."""
        loop = asyncio.get_running_loop()
        _, log = await loop.create_connection(lambda: cls(path), sock=sock)
        return log

    def _open(self) -> None:
        self._size = 0
        if not self._path:
            self._fd = -1
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        self._tail = (self._tail + data)[-_TAIL:]
        if not self._path:
            return
        try:
            if self._size + len(data) > _MAX_FILE:
                os.close(self._fd)
                os.replace(self._path, f"{self._path}.1")
                self._open()
            os.write(self._fd, data)
            self._size += len(data)
        except OSError:
            pass

    def move(self, path: str) -> None:
        """Go on in another file, with the last lines of this one. Raises OSError."""
        if self._fd >= 0:
            os.close(self._fd)
        self._path = path
        self._open()
        self._size = os.write(self._fd, self._tail)

    def tail(self) -> str:
        """The console's last lines, printable, "" if it said nothing."""
        text = self._tail.decode(errors="replace").replace("\r", "")
        lines = ["".join(c if c.isprintable() else "?" for c in x) for x in text.split("\n")]
        return "\n".join([x for x in lines if x.strip()][-_TAIL_LINES:])
