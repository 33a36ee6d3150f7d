"""Work that several callers ask for at once and that is done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

ProgressFn = Callable[[dict[str, Any]], None]
T = TypeVar("T")

CANCEL_TIMEOUT = 60.0


class _Work(Generic[T]):
    def __init__(self) -> None:
        self.listeners: list[ProgressFn] = []
        self.callers = 0
        self.task: asyncio.Task[T] | None = None

    def tell(self, message: dict[str, Any]) -> None:
        for listener in list(self.listeners):
            listener(message)


class SharedWork(Generic[T]):
    """Runs one task a key; it is cancelled when its last caller is."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Work[T]] = {}

    async def run(
        self,
        key: Hashable,
        start: Callable[[ProgressFn], Coroutine[Any, Any, T]],
        progress: ProgressFn | None,
    ) -> T:
        """The result of `start`, or of the same work already under way, with its progress."""
        work = self._running.get(key)
        if work is None:
            work = self._running[key] = _Work()
            work.task = asyncio.create_task(start(work.tell))
            work.task.add_done_callback(lambda task: self._done(key, task))
        assert work.task is not None
        if progress is not None:
            work.listeners.append(progress)
        work.callers += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.callers -= 1
            if progress is not None:
                work.listeners.remove(progress)
            if work.callers == 0 and not work.task.done():
                if self._running.get(key) is work:
                    del self._running[key]
                work.task.cancel()
                await asyncio.wait({work.task}, timeout=CANCEL_TIMEOUT)

    def is_running(self, key: Hashable) -> bool:
        """Whether work for a key is under way."""
        return key in self._running

    def _done(self, key: Hashable, task: asyncio.Task[T]) -> None:
        work = self._running.get(key)
        if work is not None and work.task is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # seen by the callers, if any are left


async def all_of(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """The results of all, run at once; after a first error the others are cancelled and awaited."""
    tasks = [asyncio.create_task(c) for c in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_thread(run: Callable[[], T], cancel: Callable[[], None]) -> T:
    """`run()` in a thread; if this is cancelled, calls `cancel` and waits for the thread's end."""
    future = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancel()
        await asyncio.wait({future}, timeout=CANCEL_TIMEOUT)
        if future.done() and not future.cancelled():
            future.exception()
        raise
