"""A hyperd that dies at the n-th step of what it does once it is told to count.

A step is whatever changes something outside its memory: a statement of the database, a call of a
sandbox, a file made, changed, renamed or removed, a process started. It dies by SIGKILL right
before step n. Without hooks in hyperd: Python's audit events (PEP 578) tell of each.

Run as `python -m tests.e2e.crashing_hyperd DIRECTORY FLAGS…`. SIGUSR1 begins to count; the file
`at` of DIRECTORY has n then (0: count only), and the steps are written to its file `steps`.
"""

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

_STEPS = {
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.setxattr", "shutil.rmtree", "shutil.copyfile"),
    *("socket.connect", "socket.bind", "socket.sendmsg", "socket.sendto"),
    *("subprocess.Popen", "os.posix_spawn", "os.fork", "os.kill"),
}
_connect = sqlite3.connect
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Steps:
    """Counts steps, and ends the process at the one that was asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._at = 0
        self._seen = 0
        self._log = -1

    def begin(self) -> None:
        """Count from now on."""
        at = int((self._directory / "at").read_text())
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        log = os.open(self._directory / "steps", flags)
        self._at, self._seen = at, 0
        self._log = log

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Python's hook: called before what it tells of."""
        if self._log < 0:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & _WRITES:
                self._step(f"open {path}")
        elif event in _STEPS:
            self._step(f"{event} {str(args[-1] if event.startswith('socket') else args[0])[-60:]}")

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        """In place of `sqlite3.connect`: counts the statements."""
        connection: sqlite3.Connection = _connect(*args, **options)
        connection.set_trace_callback(lambda statement: self._step(f"sql {statement[:40]!r}"))
        return connection

    def _step(self, what: str) -> None:
        if self._log < 0 or what.startswith("sql 'SELECT"):
            return
        self._seen += 1
        os.write(self._log, f"{what}\n".encode())
        if self._seen == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Become hyperd."""
    steps = Steps(Path(sys.argv.pop(1)))
    sys.addaudithook(steps.audit)
    sqlite3.connect = steps.connect  # type: ignore[assignment]
    from hypercontainer.daemon.main import main as hyperd

    signal.signal(signal.SIGUSR1, lambda *_: steps.begin())
    hyperd()


if __name__ == "__main__":
    main()
