"""Terminals of containers on the host: a pty for an engine's console socket, or our own tty."""

import os
import pty
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..errors import BadRequest

_CONNECT_BOUND = 10.0


def send_console(path: str) -> int:
    """Make a pty, send its master to the console socket at `path`, return its slave.

    Raises BadRequest when nobody takes it.
    """
    master, slave = pty.openpty()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_CONNECT_BOUND)
            sock.connect(path)
            socket.send_fds(sock, [os.ttyname(slave).encode()], [master])
    except OSError as error:
        os.close(slave)
        reason = error.strerror or "nobody reads it"
        raise BadRequest(f"console socket {path}: {reason.lower()}") from None
    finally:
        os.close(master)
    return slave


@contextmanager
def own_terminal() -> Iterator[int]:
    """Our own terminal in raw mode while the body runs, restored whatever happens.

    Raises BadRequest when stdin is none.
    """
    if not os.isatty(0):
        raise BadRequest("the container wants a terminal, but stdin is none: use --console-socket")
    saved = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield 0
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)


def forward_signals(proxy: int) -> None:
    """Send the signals that we get on to the proxy, which passes them to the guest."""

    def forward(signum: int, frame: object) -> None:
        try:
            os.kill(proxy, signum)
        except ProcessLookupError:
            pass

    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH", "CONT"):
        signal.signal(getattr(signal, f"SIG{name}"), forward)


class Streams(NamedTuple):
    """The descriptors of a process' streams by name; `controlling` is its proxy's terminal."""

    names: list[str]
    fds: list[int]
    controlling: int | None


@contextmanager
def streams(wants_terminal: bool, console_socket: str) -> Iterator[Streams]:
    """Our stdin, stdout and stderr, a new terminal for a console socket, or our own terminal."""
    if not wants_terminal:
        sys.stdout.flush()
        yield Streams(["stdin", "stdout", "stderr"], [0, 1, 2], None)
    elif not console_socket:
        yield Streams(["terminal"], [0], None)
    else:
        slave = send_console(console_socket)
        try:
            yield Streams(["terminal"], [slave], slave)
        finally:
            os.close(slave)
