"""Running engines' commands, with a bound on each, and their terminals."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import NamedTuple

BOUND = 90.0


class Result(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def run(
    *argv: str,
    env: dict[str, str] | None = None,
    stdin: bytes = b"",
    check: bool = False,
    timeout: float = BOUND,
) -> Result:
    """Run a command to its end; with `check` a failing one fails the test."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, env={**os.environ, **(env or {})}, timeout=timeout
    )
    result = Result(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode())
    if check and result.code != 0:
        raise AssertionError(f"{' '.join(argv)}: exit {result.code}\n{result.out}{result.err}")
    return result


def until(condition: Callable[[], object], what: str, timeout: float = BOUND) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout:.0f} s: {what}"
        time.sleep(0.1)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *argv: str, env: dict[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self.said = ""
        self._resize_only(24, 80)
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        os.close(slave)

    def _resize_only(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal another size, and tell the command."""
        self._resize_only(rows, cols)
        self.process.send_signal(signal.SIGWINCH)

    def send(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    def expect(self, pattern: str, timeout: float = BOUND) -> str:
        """Read until `pattern` (a regular expression) was said; what came before it is dropped."""
        deadline = time.monotonic() + timeout
        while (match := re.search(pattern, self.said)) is None:
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), f"no {pattern!r} in {self.said!r}"
        self.said = self.said[match.end() :]
        return match.group(0)

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.said += data.decode(errors="replace")
        return bool(data)

    def wait(self, timeout: float = BOUND) -> int:
        """The command's exit status, once everything it said was read."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        return self.process.wait(1)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._master)
