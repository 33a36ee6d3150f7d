"""A sandbox process that has nothing to do: it gives memory back, so that it is shared again."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from . import heap

# Seconds without a request or an event of the guest.
_PATIENCE = 10.0
# What threads without work take to end.
_THREADS_END = 0.25


class Rest:
    """Waits for quiet. `stir` is to be called for whatever a sandbox does."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor()
        self._loop.set_default_executor(self._threads)

    def stir(self) -> None:
        """Something is done: there is memory to give back when it is long done."""
        self._last = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(_PATIENCE, self._look)

    def _look(self) -> None:
        left = self._last + _PATIENCE - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        # Its threads would stay, and memory can only be given back by one alone. What they have
        # to do they still do.
        self._threads.shutdown(wait=False)
        self._threads = ThreadPoolExecutor()
        self._loop.set_default_executor(self._threads)
        self._timer = self._loop.call_later(_THREADS_END, self._give_back)

    def _give_back(self) -> None:
        self._timer = None
        heap.give_back()
