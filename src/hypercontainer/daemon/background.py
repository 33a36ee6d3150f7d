"""Going to the background once everything works."""

import os
import select
import sys
from pathlib import Path

_BOUND = 120.0


class Background:
    """The daemon's side of the pipe on which the command waits to hear that it is ready."""

    def __init__(self, pipe: int, log: int) -> None:
        self._pipe = pipe
        self._log = log

    @classmethod
    def fork(cls, log_path: Path) -> "Background":
        """Fork. Only the child returns; the parent exits once the child is ready, or has failed.

        The child's messages go to `log_path`. Raises OSError.
        """
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid:
            os.close(writing)
            _await(reading, pid, log_path)
        os.close(reading)
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1):
            os.dup2(null, number)
        os.dup2(log, 2)
        os.close(null)
        return cls(writing, log)

    def ready(self, message: str) -> None:
        """Let the command return."""
        self._tell(f"+{message}")

    def failed(self, message: str) -> None:
        """Let the command fail with a message."""
        self._tell(f"-{message}")

    def _tell(self, text: str) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, text.encode())
        except OSError:
            pass
        os.close(self._pipe)
        self._pipe = -1


def _await(pipe: int, pid: int, log_path: Path) -> None:
    """The parent's end: exit as the child tells."""
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    said = b""
    while poller.poll(_BOUND * 1000):
        data = os.read(pipe, 4096)
        if not data:
            break
        said += data
    if said.startswith(b"+"):
        os._exit(0)
    why = said[1:].decode(errors="replace")
    if not why:
        why = f"it did not come up (pid {pid})"
        why += f": see {log_path}"
    sys.stderr.write(f"hyperd: {why}\n")
    sys.stderr.flush()
    os._exit(1)
