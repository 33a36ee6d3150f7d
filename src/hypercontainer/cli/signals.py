"""Signals as events of a poll loop."""

from __future__ import annotations

import os
import signal

from .output import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)
"""What a foreground container without a terminal gets instead of us."""

FATAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PATIENCE = 3


class SignalPipe:
    """Collects signals while it is entered; `fileno` is readable when some came.

    The third SIGINT or SIGTERM ends us, for those whose container does not react.
    A signal that was ignored when we started (nohup) stays ignored.
    """

    def __init__(self, signums: Iterable[int]) -> None:
        self._signums = [s for s in signums if signal.getsignal(s) != signal.SIG_IGN]
        self._pending: list[int] = []
        self._insisted = 0

    def __enter__(self) -> SignalPipe:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._catch()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        os.close(self._read)
        os.close(self._write)

    def _catch(self) -> None:
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._old: dict[int, Any] = {s: signal.signal(s, self._caught) for s in self._signums}

    def _restore(self) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._old_fd)

    def uncaught(self, action: Callable[[], None]) -> None:
        """Do something during which signals have their usual effect."""
        self._restore()
        try:
            action()
        finally:
            self._catch()

    def _caught(self, signum: int, frame: FrameType | None) -> None:
        self._pending.append(signum)
        if signum in (signal.SIGINT, signal.SIGTERM):
            self._insisted += 1
            if self._insisted == _PATIENCE:
                tell("hyper: ended by the third signal; the container goes on")
                raise SystemExit(128 + signum)

    def fileno(self) -> int:
        """For poll."""
        return self._read

    def take(self) -> list[int]:
        """The signals that came since the last call."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass
        pending, self._pending = self._pending, []
        return pending
