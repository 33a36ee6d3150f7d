"""Pods that are paused on disk: without a VM, until they are continued as what they were.

Below the root: suspended/POD, as a snapshot but for the disks, which stay where they are. It is
there exactly as long as memory and disks belong together: it appears when the VM has stopped for
good, and goes before the VM that continues it runs.
"""

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING

from ..errors import HyperError, NotRunning
from ..sandbox import ExitStatus, launch
from ..sandbox.resume import read_description, was_begun
from .model import Container, Pod, Status
from .snapshots import (
    EACH,
    SnapshotStore,
    Taken,
    check_files,
    load_memory,
    memory_path,
    need_memory,
    new_memory,
    write_manifest,
)

if TYPE_CHECKING:
    from .service import PodService

log = logging.getLogger(__name__)


class Suspending:
    """Pauses pods on disk and continues them. Methods are called with the pod's lock held."""

    def __init__(self, service: "PodService") -> None:
        self._service = service
        self.store = SnapshotStore(service.layout.suspended)

    async def suspend(self, pod: Pod) -> None:
        """Save a running pod and end its VM. Raises HyperError; it goes on then."""
        service, what = self._service, f"pause {pod.id}"
        service.copies.saver.check(pod, what)
        client = pod.client
        assert client is not None
        with self.store.temporary() as directory:
            memory = new_memory(directory, what)
            try:
                about = await service.copies.saver.save(
                    pod, directory, memory, what, disks=False, stay=True
                )
            finally:
                os.close(memory)
            try:
                await asyncio.to_thread(write_manifest, directory, {"name": pod.id, **about})
                self.store.keep(pod.id, directory)
            except BaseException:
                with contextlib.suppress(HyperError):
                    await client.resume()
                raise
        pod.suspended = True
        for container in pod.containers:
            container.state.status = Status.PAUSED
            service.runner.let_go(container)
        service.store.save(*pod.containers)
        await service.runner.end(pod)
        pod.client = None
        for container in pod.containers:
            service.events.container("pause", pod, container)

    async def resume(self, pod: Pod) -> None:
        """Let a suspended pod go on. Raises HyperError; it stays as it is if it can."""
        service, what = self._service, f"unpause {pod.id}"
        if not pod.suspended:
            raise NotRunning(f"{what}: it is not paused")
        snapshot = self.store.get(pod.id)
        await asyncio.to_thread(check_files, snapshot, what)
        need_memory(EACH, what)
        memory = await asyncio.to_thread(load_memory, snapshot, what)
        try:
            with self.store.taken(pod.id) as taken:
                await self._continue(pod, taken, memory)
        finally:
            os.close(memory)
        pod.suspended = False
        for container in pod.containers:
            container.state.status = Status.RUNNING
            assert pod.client is not None
            service.runner.watch(pod, container, pod.client)
            service.events.container("unpause", pod, container)
        service.store.save(*pod.containers)

    async def _continue(self, pod: Pod, taken: Taken, memory: int) -> None:
        service = self._service
        state_dir = service.layout.sandbox(pod.id)
        disks = [d["path"] for d in read_description(str(taken.directory))["disks"]]
        resume = {
            "directory": str(taken.directory),
            "memory": memory_path(memory),
            "containers": {c.id: c.id for c in pod.containers},
            "disks": {path: path for path in disks},
            "logs": {c.id: service.runner.log_for(pod, c) for c in pod.containers},
        }
        vm = service.runner.vm_of(pod, share=False)
        try:
            pod.client = client = await launch(
                pod.id, state_dir, vm, zygote=service.runner.zygote, resume=resume
            )
            taken.spent = True
            async with service.networking.wired(pod, client):
                pass
            await client.proceed({})
        except BaseException:
            taken.spent = taken.spent or was_begun(str(state_dir))
            pod.client = None
            await service.runner.end(pod)
            if taken.spent:
                await self.discard(pod, "its virtual machine could not be continued")
            raise
        for container in pod.containers:
            service.runner.note_pid(client, container)
            await service.runner.connect(client, container, stdin=bool(container.spec.stdin))

    async def discard(self, pod: Pod, reason: str) -> None:
        """End a suspended pod: what was saved goes, and its containers have been killed."""
        pod.suspended = False
        with contextlib.suppress(HyperError):
            await self.store.remove(pod.id)
        for container in pod.containers:
            if container.live:
                status = ExitStatus(137, 9, False, reason, "")
                self._service.record_end(container, status)

    async def recover(self, pod: Pod, *, alive: bool) -> bool:
        """After a start of hyperd: whether the pod is suspended. `alive` says that its VM is."""
        if pod.id not in self.store.names():
            return False
        if alive or not pod.live:
            await self.store.remove(pod.id)
            return False
        pod.suspended = True
        for container in pod.containers:
            container.state.status = Status.PAUSED
        self._service.store.save(*pod.containers)
        return True

    async def clear(self) -> None:
        """Remove what belongs to no pod."""
        for name in self.store.names():
            if name not in self._service.pods:
                log.warning("clearing the memory of no pod: %s", name)
                with contextlib.suppress(HyperError):
                    await self.store.remove(name)


def check_not_suspended(pod: Pod, container: Container) -> None:
    """Raises NotRunning for what a pod without a VM can't be asked."""
    if pod.suspended:
        raise NotRunning(f"container {container.name} is paused on disk: unpause it first")
