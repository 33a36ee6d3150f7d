"""What a shim logs: read from the FIFO in its bundle, and put into our own log."""

import asyncio
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
_LINE = 2000


class ShimLog:
    """Follows one shim's log from now on."""

    def __init__(self, name: str, bundle: Path) -> None:
        """`name` is what its lines begin with. A bundle without the FIFO is fine."""
        self._name = name
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            self._file = os.open(bundle / "log", flags)
        except OSError:
            self._file = -1
            return
        asyncio.get_running_loop().add_reader(self._file, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._file, _CHUNK)
        except BlockingIOError:
            return
        for line in data.decode(errors="replace").splitlines():
            log.info("shim of %s: %s", self._name, line[:_LINE])
        if not data:
            self.close()

    def close(self) -> None:
        """Follow it no more."""
        file, self._file = self._file, -1
        if file >= 0:
            asyncio.get_running_loop().remove_reader(file)
            os.close(file)
