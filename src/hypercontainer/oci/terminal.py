"""Terminals of containers on the host: a pty for an engine's console socket, or our own tty."""

import os
import pty
import socket
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BadRequest

_CONNECT_BOUND = 10.0
_DRAIN_BOUND = 5.0


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

    Yields what the container's terminal is to be joined to: our terminal, or
    one between it and our streams when these were redirected. Raises
    BadRequest when we have none.
    """
    own = _find_terminal()
    saved = termios.tcgetattr(own)
    try:
        tty.setraw(own)
        if os.isatty(0) and os.isatty(1):
            yield own
        else:
            with _between(own) as slave:
                yield slave
    finally:
        termios.tcsetattr(own, termios.TCSADRAIN, saved)


def _find_terminal() -> int:
    """As runc: any of the standard streams, else the controlling terminal."""
    for fd in (0, 1, 2):
        if os.isatty(fd):
            return fd
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise BadRequest(
            f"the container wants a terminal: open /dev/tty: {reason}: use --console-socket"
        ) from None


@contextmanager
def _between(own: int) -> Iterator[int]:
    """A terminal of the size of `own`, carried from our stdin and to our stdout."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, termios.tcgetwinsize(own))
    output = threading.Thread(target=_copy, args=(master, 1), daemon=True)
    output.start()
    threading.Thread(target=_copy, args=(0, master), daemon=True).start()
    try:
        yield slave
    finally:
        os.close(slave)
        output.join(_DRAIN_BOUND)


def _copy(source: int, target: int) -> None:
    """Until the source ends, which a terminal does with an error."""
    try:
        while data := os.read(source, 65536):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        return
