"""A program that takes a container's output (`binary://`), as containerd starts them.

It gets stdout and stderr as descriptors 3 and 4, and closes 5 once it is ready.
"""

import fcntl
import os
import select
import signal

from ...errors import BadRequest, HyperError
from ...system import processes

_READY_BOUND = 10.0
_ENDS = ((0, 12.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
_ABOVE_THEIRS = 10


class Logger:
    """The program and our ends of its pipes, `stdout` and `stderr`, which the caller closes."""

    def __init__(self, path: str, arguments: list[str], cid: str, namespace: str) -> None:
        """Start it and wait until it is ready. Raises BadRequest and HyperError."""
        out, self.stdout = os.pipe2(os.O_CLOEXEC)
        err, self.stderr = os.pipe2(os.O_CLOEXEC)
        ready, told = os.pipe2(os.O_CLOEXEC)
        environment = {**os.environ, "CONTAINER_ID": cid, "CONTAINER_NAMESPACE": namespace}
        self._pid = 0
        try:
            self._pid = _start(path, arguments, [out, err, told], environment)
            os.close(told)
            told = -1
            if not select.select([ready], [], [], _READY_BOUND)[0]:
                raise HyperError(f"log program {path}: not ready in {_READY_BOUND:.0f} s")
        except BaseException as error:
            os.close(self.stdout)
            os.close(self.stderr)
            self.close()
            if isinstance(error, OSError):
                reason = (error.strerror or "error").lower()
                raise BadRequest(f"log program {path}: {reason}") from None
            raise
        finally:
            for fd in (out, err, ready, *([told] if told >= 0 else [])):
                os.close(fd)

    def close(self) -> None:
        """Let it end by itself, as it does once its input has, else end it."""
        if not self._pid:
            return
        started = processes.start_time(self._pid)
        for signum, patience in _ENDS:
            if started is None or processes.kill_and_wait(self._pid, started, signum, patience):
                break
        os.waitpid(self._pid, 0)
        self._pid = 0


def _start(path: str, arguments: list[str], fds: list[int], environment: dict[str, str]) -> int:
    """Raises OSError."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_THEIRS) for fd in fds]
    nulls = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    moves = [(os.POSIX_SPAWN_DUP2, fd, 3 + place) for place, fd in enumerate(high)]
    try:
        return os.posix_spawn(
            path, [path, *arguments], environment, file_actions=[*nulls, *moves], setsid=True
        )
    finally:
        for fd in high:
            os.close(fd)
