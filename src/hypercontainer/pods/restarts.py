"""Starting ended containers again, after a while that grows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .model import Container, Pod, Status

log = logging.getLogger(__name__)


class Restarts:
    """The restarts that are due. `again` starts a container that waits for its restart."""

    def __init__(self, again: Callable[[Pod, Container], Awaitable[None]]) -> None:
        self._again = again
        self._due: dict[str, asyncio.Task[None]] = {}

    def schedule(self, pod: Pod, container: Container, delay: float) -> None:
        """Start it again in `delay` seconds."""
        self.cancel(container)
        container.delay = delay
        task = asyncio.create_task(self._later(pod, container, delay))
        self._due[container.id] = task

    def cancel(self, container: Container) -> None:
        """Do not start it again."""
        if (task := self._due.pop(container.id, None)) is not None:
            task.cancel()

    async def close(self) -> None:
        """Start nothing more."""
        for task in self._due.values():
            task.cancel()
        self._due.clear()

    async def _later(self, pod: Pod, container: Container, delay: float) -> None:
        log.info("container %s is started again in %.1f s", container.name, delay)
        await asyncio.sleep(delay)
        if self._due.get(container.id) is asyncio.current_task():
            del self._due[container.id]
        if container.state.status == Status.RESTARTING:
            await self._again(pod, container)
