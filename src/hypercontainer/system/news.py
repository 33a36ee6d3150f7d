"""Waiting for the next of what is told one after another."""

import asyncio
import time


class News:
    """Wakes those who wait. Used from one event loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def tell(self) -> None:
        """There is something new."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, until: int | None) -> bool:
        """Wait for the next; whether it came before `until`, in nanoseconds since 1970."""
        left = None if until is None else (until - time.time_ns()) / 10**9
        if left is not None and left <= 0:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(left):
                await future
        except TimeoutError:
            return False
        finally:
            if future in self._waiting:
                self._waiting.remove(future)
        return True
