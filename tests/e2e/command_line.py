"""What the tests of `hyper` share: calling it, and being its terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.e2e.engine import SLOWNESS

HYPER = Path(sys.executable).with_name("hyper")
BOUND = 60.0 * SLOWNESS


class Hyper:
    """Calls the real `hyper` with the environment of a hyperd of the test's own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.host = f"unix://{socket}"
        self.environment = {**os.environ, "HYPER_HOST": self.host, "COLUMNS": "200"}

    def __call__(
        self, *arguments: str, input: bytes | None = None, timeout: float = BOUND
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; without `input` stdin is /dev/null."""
        return subprocess.run(
            [str(HYPER), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
            env=self.environment,
            check=False,
        )

    def text(self, *arguments: str, input: bytes | None = None) -> str:
        """The output of a call that must succeed."""
        done = self(*arguments, input=input)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout.decode().rstrip("\n")

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a call with pipes in place of its standard files."""
        return subprocess.Popen(
            [str(HYPER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )

    def on_terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> "Terminal":
        """Start a call on a terminal of its own."""
        return Terminal([str(HYPER), *arguments], self.environment, rows, columns)


class Terminal:
    """A program on a pseudo-terminal, which is its controlling terminal."""

    def __init__(
        self, argv: list[str], environment: dict[str, str], rows: int, columns: int
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.seen = b""
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, which signals SIGWINCH to the program."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data: bytes) -> None:
        """Type."""
        os.write(self.master, data)

    def expect(self, text: bytes, timeout: float = BOUND) -> bytes:
        """Wait for a text; returns what came up to its end."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"{text!r} did not come, but {self.seen!r}")
            self.seen += os.read(self.master, 65536)
        end = self.seen.index(text) + len(text)
        came, self.seen = self.seen[:end], self.seen[end:]
        return came

    def end(self, timeout: float = BOUND) -> int:
        """Wait for the program's end; its exit code. The terminal must be as it was."""
        code = self.process.wait(timeout)
        assert termios.tcgetattr(self._slave) == self.before
        return code

    def close(self) -> None:
        """Let the terminal go."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(BOUND)
        os.close(self._slave)
        os.close(self.master)


def until(condition: object, timeout: float = 20.0) -> None:
    """Wait for a function to return something true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.1)
