"""What a process of a container is joined to on the host: our streams, or a terminal."""

import os
import sys

from ..quick import signals
from ..quick.types import NamedTuple

_FORWARDED = (
    *(signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM),
    *(signals.SIGUSR1, signals.SIGUSR2, signals.SIGWINCH, signals.SIGCONT),
)


class Streams(NamedTuple):
    """The descriptors of a process' streams by name; `controlling` is its proxy's terminal."""

    names: list[str]
    fds: list[int]
    controlling: int | None = None

    @property
    def has_input(self) -> bool:
        """Whether the process has something to read from."""
        return "stdin" in self.names or "terminal" in self.names

    def close(self) -> None:
        """Close what was opened for them."""
        if self.controlling is not None:
            os.close(self.controlling)


def open_streams(wants_terminal: bool, console_socket: str, own: int) -> Streams:
    """Our stdin, stdout and stderr, a new terminal for a console socket, or the terminal `own`.

    Raises BadRequest when nobody takes the new terminal.
    """
    if not wants_terminal:
        sys.stdout.flush()
        return Streams(["stdin", "stdout", "stderr"], [0, 1, 2])
    if not console_socket:
        return Streams(["terminal"], [own])
    from .terminal import send_console

    slave = send_console(console_socket)
    return Streams(["terminal"], [slave], slave)


def forward_signals(proxy: int) -> None:
    """Send the signals that we get on to the proxy, which passes them to the guest."""

    def forward(signum: int, frame: object) -> None:
        try:
            os.kill(proxy, signum)
        except ProcessLookupError:
            pass

    for signum in _FORWARDED:
        signals.signal(signum, forward)
