"""What is told of an attempt to start a pod: its times, and its failure."""

import logging
import time

from ..errors import HyperError, NoSpace, is_full
from .model import Pod

log = logging.getLogger(__name__)


class Stopwatch:
    """Milliseconds from its making to each lap, for the log."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._laps: list[str] = []

    def lap(self, name: str) -> None:
        """Note that something is done."""
        self._laps.append(f"{name} {1000 * (time.monotonic() - self._begun):.0f} ms")

    def __str__(self) -> str:
        return ", ".join(self._laps)


def as_hyper_error(error: Exception, pod: Pod) -> HyperError:
    """The failure of a start as an error for people."""
    if isinstance(error, HyperError):
        return error
    if isinstance(error, OSError):
        if is_full(error):
            return NoSpace(f"start {pod.id}: {error}: free space, or set Root to a larger disk")
        return HyperError(f"start {pod.id}: {error}")
    log.exception("start of %s", pod.id, exc_info=error)
    return HyperError(f"start {pod.id}: internal error: {type(error).__name__}: {error}")
