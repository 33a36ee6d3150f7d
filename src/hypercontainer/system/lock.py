"""One daemon of a kind at a time on a directory."""

import fcntl
import os
from pathlib import Path

from ..errors import Conflict


class Lock:
    """A lock on a directory, held until the process ends."""

    def __init__(self, directory: Path, what: str, daemon: str) -> None:
        """Take it in `DAEMON.lock`; `what` is the flag that names the directory.

        Raises Conflict naming the pid of the holder.
        """
        path = directory / f"{daemon}.lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise Conflict(
                f"another {daemon} (pid {holder or 'unknown'}) uses the {what} {directory}:"
                f" stop it, or give this one another --{what}"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
