"""Ending, pausing and signalling what runs in a pod."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ..errors import HyperError, NotRunning
from ..sandbox import SandboxClient
from . import oci
from .events import Events
from .model import Container, Pod, Status
from .store import Store

log = logging.getLogger(__name__)

_KILL_BOUND = 15.0


class Stopping:
    """Stops, kills, pauses and signals containers that run.

    `cleared` waits until nothing is left of a pod's VM that is ending. Methods that
    change a pod are called with its lock held.
    """

    def __init__(
        self, store: Store, events: Events, cleared: Callable[[str], Awaitable[None]]
    ) -> None:
        self._store = store
        self._events = events
        self._cleared = cleared

    async def stop(self, pod: Pod, containers: list[Container], grace: float) -> None:
        """Ask containers to end, kill those still there after `grace` seconds."""
        live = [c for c in containers if c.live]
        client = pod.client
        if not live or client is None:
            return
        for container in live:
            if container.state.status == Status.PAUSED:
                with contextlib.suppress(HyperError):  # it may be dead already
                    await self.pause_one(pod, container, False)
        for container in live:
            signum = oci.stop_signal_of(container)
            self._events.container("kill", pod, container, signal=str(signum))
            await _signal(client, container, signum)
        if not await _ended(live, grace):
            for container in live:
                if container.live:
                    container.kill_reason = f"killed: it did not stop within {grace:g} s"
                    await _signal(client, container, 9, to_all=True)
            if not await _ended(live, _KILL_BOUND):
                await self.kill_vm(pod)
                await _ended(live, _KILL_BOUND)
        for container in live:
            self._events.container("stop", pod, container)
        if not pod.live:
            await self._cleared(pod.id)

    async def kill_vm(self, pod: Pod, reason: str = "") -> None:
        """End the pod's VM at once; its containers are recorded as killed."""
        if pod.client is None:
            return
        for container in pod.containers:
            if container.live and reason:
                container.kill_reason = reason
        with contextlib.suppress(HyperError):
            await pod.client.kill()

    async def signal(self, pod: Pod, container: Container, signum: int) -> None:
        """Signal a container's first process. Raises NotRunning."""
        if pod.client is None or not container.live:
            raise NotRunning(f"container {container.name} is not running")
        if signum == 9:
            container.kill_reason = "signal 9: killed on request"
            if container.state.status == Status.PAUSED:
                await self.pause_one(pod, container, False)
        await pod.client.signal(container.id, "init", signum)
        self._events.container("kill", pod, container, signal=str(signum))

    async def pause_one(self, pod: Pod, container: Container, paused: bool) -> None:
        """Stop or continue one container: the VM where it is alone, else its processes.

        Raises NotRunning in a wrong state.
        """
        client = pod.client
        others = [c for c in pod.containers if c.live and c is not container]
        if client is None or not others:
            await self.pause(pod, paused)
            return
        wanted = Status.RUNNING if paused else Status.PAUSED
        if container.state.status != wanted:
            raise NotRunning(f"container {container.name} is not {wanted}")
        try:
            await client.freeze(container.id, paused)
        except NotRunning:
            if paused:
                raise
            await self.pause(pod, False)  # the whole VM was paused
            return
        container.state.status = Status.PAUSED if paused else Status.RUNNING
        self._store.save(container)
        self._events.container("pause" if paused else "unpause", pod, container)

    async def pause(self, pod: Pod, paused: bool) -> None:
        """Stop or continue a pod's VM. Raises NotRunning in a wrong state."""
        wanted = Status.RUNNING if paused else Status.PAUSED
        live = [c for c in pod.containers if c.live]
        if pod.client is None or not live or any(c.state.status != wanted for c in live):
            raise NotRunning(f"pod {pod.id} is not {wanted}")
        await (pod.client.pause() if paused else pod.client.resume())
        for container in live:
            if container.live:
                container.state.status = Status.PAUSED if paused else Status.RUNNING
        self._store.save(*live)
        for container in live:
            self._events.container("pause" if paused else "unpause", pod, container)


async def _ended(containers: list[Container], timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            for container in containers:
                await container.ended.wait()
    except TimeoutError:
        return False
    return True


async def _signal(
    client: SandboxClient, container: Container, signum: int, *, to_all: bool = False
) -> None:
    try:
        await client.signal(container.id, "init", signum, all=to_all)
    except HyperError as error:
        log.debug("signal %d to %s: %s", signum, container.name, error)
