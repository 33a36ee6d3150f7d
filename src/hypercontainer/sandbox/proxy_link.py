"""The sandbox's end of a proxy; apart from `proxy`, whose users start anew each time."""

import asyncio
import os
import signal
from collections.abc import Callable

_EXIT_BOUND = 2.0


class ProxyLink:
    """The sandbox's end of a proxy."""

    def __init__(self, fd: int, on_signal: Callable[[int], None]) -> None:
        """`on_signal` gets what the proxy was sent; SIGKILL when it was killed."""
        self._fd = os.dup(fd)
        os.set_blocking(self._fd, False)
        self._on_signal = on_signal
        self._done = False
        self._gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        for name in data.decode(errors="replace").split():
            number = getattr(signal, f"SIG{name}", None)
            if number is not None:
                self._on_signal(int(number))
        if not data:
            self._close()
            if not self._done:
                self._on_signal(int(signal.SIGKILL))

    async def exit(self, code: int) -> None:
        """Let the proxy exit with `code`, and wait a moment until it has."""
        self._done = True
        if self._fd < 0:
            return
        try:
            os.write(self._fd, f"{code}\n".encode())
            await asyncio.wait_for(self._gone.wait(), _EXIT_BOUND)
        except (OSError, TimeoutError):
            pass
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._gone.set()
