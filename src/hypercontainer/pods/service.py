"""The service of pods: create, find, start, stop, remove; what hyperd's routes call."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import replace
from signal import SIGKILL
from typing import Any, TypeVar

from ..errors import BadRequest, Conflict, HyperError, NotFound, NotRunning
from ..images import ImageStore
from ..networks import Networks
from ..sandbox import ExitStatus, SandboxClient, VMConfig, Zygote
from ..system.tasks import Tasks
from ..volumes import VolumeStore
from . import life, oci, recovery, removing
from .copies import Copies
from .creation import check_architecture, container_of, named, named_container, whole, with_network
from .depends import needs_start, with_dependencies
from .execs import Execs
from .filesystem import Filesystem
from .layout import Layout
from .logconfig import LogConfig
from .model import Attachment, Container, Pod, Status, now
from .mounts import expand_volumes_from
from .networking import Networking
from .own_volumes import volume_users, volumes_made
from .plans import Defaults
from .registry import Registry
from .restart_policy import next_delay
from .restarts import Restarts
from .runner import Runner
from .spec import parse_pod, split_pod
from .store import Store
from .suspending import Suspending, check_not_suspended

log = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_BOUND = 10.0


class PodService(Registry):
    """All pods of this hyperd, in memory and in the database."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        images: ImageStore,
        defaults: Defaults,
        networks: Networks,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.store = store
        self.images = images
        self._defaults = defaults
        self.restarts = Restarts(self._again)
        self.volumes = VolumeStore(layout.volumes, images.make_upper, defaults.disk_size)
        self.networking = Networking(networks, self)
        self.runner = Runner(
            layout,
            store,
            images,
            defaults,
            self.events,
            self.volumes,
            self.pod_ended,
            self.restarts,
            self.networking,
        )
        self.execs = Execs(self, layout.tools)
        self.files = Filesystem(layout, self.runner.planner, defaults, self.volumes, self.runner)
        self.copies = Copies(self)
        self.suspending = Suspending(self)
        self._tasks = Tasks()

    async def open(self) -> None:
        """Load what is stored, find the VMs that live, record what ended meanwhile."""
        await asyncio.to_thread(self.volumes.reconcile)
        await asyncio.to_thread(self.copies.store.open)
        await asyncio.to_thread(self.suspending.store.open)
        for pod in self.store.load():
            self.add(pod)
        await asyncio.to_thread(self.volumes.drop_pending, volume_users(self))
        await recovery.recover(self, self.runner)
        await asyncio.to_thread(self.volumes.empty_half_filled)
        await self.networking.reconcile()
        try:
            self.runner.zygote = await Zygote.start()
        except OSError as error:
            log.warning("no zygote, starts are slower: %s", error)
            return
        self._keep_ready(self.runner.zygote)

    def _keep_ready(self, zygote: Zygote) -> None:
        """Have the VMs made ready that the configuration wants."""
        for size in self._defaults.factory.sizes:
            vm = VMConfig(
                **self._defaults.of_vms(),
                cpus=size.cpus,
                memory_mib=size.memory_mib,
                linger=False,
            )
            try:
                zygote.keep(vm, size.count)
            except OSError as error:
                log.warning("no VMs are kept ready: %s", error)

    async def close(self) -> None:
        """Let operations under way end for a few seconds; VMs go on."""
        await self.restarts.close()
        await self.execs.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_BOUND)
        self._tasks.cancel()
        self.copies.store.close()
        await self.runner.close()
        await self.networking.close()
        if self.runner.zygote is not None:
            with contextlib.suppress(OSError, TimeoutError):
                await self.runner.zygote.stop()

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end even if the client that asked goes away."""
        return await asyncio.shield(self._tasks.spawn(work))

    def uses_image(self, image_id: str) -> str:
        """What is made of that image, in words: a container or a snapshot; "" for nothing."""
        if used := super().uses_image(image_id):
            return used
        name = self.copies.store.uses_image(image_id)
        return f"the snapshot {name}" if name else ""

    def log_of(self, container: Container) -> LogConfig:
        """Where the container's output goes."""
        return self.pod_of(container).spec.log.over(self._defaults.log)

    # Creating

    def create(self, raw: dict[str, Any]) -> Pod:
        """Create a pod; no VM is started.

        Raises BadRequest, NotSupported, NotFound (an image), Conflict (a name).
        """
        raw = with_network(
            expand_volumes_from(raw, self.container), self.networking.networks.default_mode
        )
        spec = named(self, parse_pod(raw))
        created_at = now()
        pod_raw, containers = split_pod(raw, spec.id)
        pod = Pod(spec.id, spec, pod_raw, created_at)
        pod.containers = [
            container_of(self.images, pod, item, given, created_at)
            for item, given in zip(spec.containers, containers, strict=True)
        ]
        check_architecture(self.images, pod.containers)
        with volumes_made(self, self.volumes, pod.containers), self.networking.defined(pod):
            self.store.add_pod(pod)
        self.add(pod)
        self.events.pod("create", pod)
        for container in pod.containers:
            self.events.container("create", pod, container)
        return pod

    async def add_container(self, pod: Pod, raw: dict[str, Any]) -> Container:
        """Create a container in a pod that exists; it is not started.

        Raises BadRequest, NotSupported, NotFound (its image), Conflict (its name, the pod).
        """
        (raw,) = expand_volumes_from({"containers": [raw]}, self.container)["containers"]
        async with pod.lock:
            if self.pods.get(pod.id) is not pod:
                raise NotFound(f"no such pod: {pod.id}")
            await life.make_room(self, pod, raw)
            spec = parse_pod(whole(pod, raw))
            own = named_container(self, pod, spec.containers[-1])
            container = container_of(self.images, pod, own, raw, now())
            check_architecture(self.images, [*pod.containers, container])
            with volumes_made(self, self.volumes, [container]):
                self.store.add_container(container)
            if own.ports:
                try:
                    await self.networking.networks.publish(pod.id, own.ports, pod.client)
                except BaseException:
                    self.store.remove_containers(container.id)
                    raise
            pod.spec = replace(spec, containers=(*spec.containers[:-1], own))
            pod.containers.append(container)
            self.add(pod)
            self.events.container("create", pod, container)
            return container

    # Starting and ending

    async def start(self, pod: Pod, containers: list[Container] | None = None) -> None:
        """Start a pod, or some of its containers; those that run already are left alone."""
        await self.whole(self._start(pod, containers))

    async def _start(self, pod: Pod, containers: list[Container] | None) -> None:
        async with pod.lock:
            wanted = containers or pod.containers
            ordered = with_dependencies(pod, wanted)
            chosen = [c for c in ordered if needs_start(c, wanted)]
            pod.given_up.clear()
            for container in chosen:
                if not self.knows(container):
                    raise NotFound(f"no such container: {container.name}")
                if container.state.status == Status.REMOVING:
                    raise Conflict(f"container {container.name} is being removed")
                self.restarts.cancel(container)
                container.delay = 0.0
            if chosen:
                await self.runner.start(pod, chosen)

    async def _again(self, pod: Pod, container: Container) -> None:
        """Start a container by its restart policy."""
        await self.whole(self._restart(pod, container))

    async def _restart(self, pod: Pod, container: Container) -> None:
        async with pod.lock:
            if not self.knows(container) or container.state.status != Status.RESTARTING:
                return
            try:
                await self.runner.start(pod, [container], again=True)
            except HyperError as error:
                log.error("start container %s again: %s", container.name, error)
                state = container.state
                if container.spec.restart.wants(125, state.restarts, stopped=state.stopped):
                    self.await_restart(pod, container)

    def await_restart(self, pod: Pod, container: Container) -> None:
        """Start an ended container again after a while."""
        container.state.status = Status.RESTARTING
        self.store.save(container)
        self.restarts.schedule(pod, container, next_delay(container.delay, 0.0))

    async def stop(self, pod: Pod, containers: list[Container] | None, grace: float | None) -> None:
        """Stop containers of a pod (None: all). Grace in seconds, None: as each was created."""
        pod.given_up.set()
        await self.whole(self._stop(pod, containers or list(pod.containers), grace))

    async def _stop(self, pod: Pod, containers: list[Container], grace: float | None) -> None:
        async with pod.lock:
            for container in containers:
                self.user_ends(container)
            if pod.suspended:
                await self.suspending.resume(pod)
            longest = max((c.spec.stop_timeout for c in containers), default=0)
            await self.runner.stopping.stop(pod, containers, longest if grace is None else grace)

    async def kill(self, container: Container, signum: int) -> None:
        """Signal a container's first process. Raises NotRunning."""
        pod = self.pod_of(container)
        if pod.suspended and signum != SIGKILL:
            check_not_suspended(pod, container)
        if signum in (SIGKILL, oci.stop_signal_of(container)):
            self.user_ends(container)
        if pod.suspended:
            await self.whole(self._discard(pod))
            return
        await self.runner.stopping.signal(pod, container, signum)

    async def _discard(self, pod: Pod) -> None:
        async with pod.lock:
            if pod.suspended:
                await self.suspending.discard(pod, "signal 9: killed on request")

    def user_ends(self, container: Container) -> None:
        """Note that a container is ended by a user: its restart policy holds no longer."""
        self.restarts.cancel(container)
        if not container.live and container.state.status != Status.RESTARTING:
            return
        container.state.stopped = True
        if container.state.status == Status.RESTARTING:
            container.state.status = Status.EXITED
        self.store.save(container)

    async def pause(
        self, pod: Pod, paused: bool, container: Container | None = None, *, to_disk: bool = False
    ) -> None:
        """Stop or continue a pod's VM, or one container; with `to_disk` the pod has no VM
        meanwhile. Raises NotRunning in a wrong state."""
        await self.whole(self._pause(pod, paused, container, to_disk))

    async def _pause(
        self, pod: Pod, paused: bool, container: Container | None, to_disk: bool
    ) -> None:
        async with pod.lock:
            if pod.suspended and paused:
                raise NotRunning(f"pod {pod.id} is paused already")
            if pod.suspended:
                await self.suspending.resume(pod)
            elif to_disk:
                await self.suspending.suspend(pod)
            elif container is None:
                await self.runner.stopping.pause(pod, paused)
            else:
                await self.runner.stopping.pause_one(pod, container, paused)

    async def remove(
        self,
        pod: Pod,
        containers: list[Container] | None = None,
        *,
        force: bool = False,
        volumes: bool = False,
    ) -> None:
        """Remove a pod, or containers of it (with the last one goes the pod).

        With `volumes` their anonymous volumes go too, as those of a pod that removes itself do.
        Raises Conflict when one runs, or others of the pod depend on one, and `force` is not given.
        """
        volumes = volumes or pod.spec.auto_remove
        if force:
            pod.given_up.set()
        chosen = containers or list(pod.containers)
        await self.whole(removing.remove(self, pod, chosen, force=force, volumes=volumes))

    def pod_ended(self, pod: Pod) -> None:
        """The last container of a pod has ended, its VM is going."""
        task = removing.forget_ended(self, pod)
        if task is not None:
            self._tasks.keep(task)

    # Waiting and attaching

    async def exit_code(self, reference: str, *, removed: bool = False) -> int:
        """Wait for the end of a container; with `removed` also until it is cleared away.

        Answers for containers removed lately too. Raises NotFound.
        """
        try:
            container = self.container(reference)
        except NotFound:
            gone = self.remembered(reference)
            if removed:
                await gone.cleared.wait()
            return gone.exit_code
        await container.ended.wait()
        if not container.state.finished_at:
            raise NotFound(f"container {container.name} was removed before it was started")
        if removed and (cleared := self.clearing(container)) is not None:
            await cleared.wait()
        return container.state.exit_code

    async def attach(
        self, container: Container, *, stdin: bool, gone: asyncio.Future[None]
    ) -> Attachment:
        """Connect to a container's streams; one that does not run yet is waited for.

        `gone` is done when the client is gone, which ends the wait.
        Raises NotFound when it is removed, and the error of its start.
        """
        pod = self.pod_of(container)
        if container.live and pod.client is not None:
            try:
                return await pod.client.attach(container.id, stdin=stdin)
            except BadRequest:
                return await pod.client.attach(container.id, stdin=False)
        future: asyncio.Future[Attachment] = asyncio.get_running_loop().create_future()
        container.waiting.append((future, stdin))
        waited: list[asyncio.Future[Any]] = [future, gone]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise HyperError("the client is gone")
            return future.result()
        finally:
            if not future.done():
                future.cancel()
            container.waiting = [w for w in container.waiting if w[0] is not future]

    async def resize(self, container: Container, process: str, rows: int, columns: int) -> None:
        """Set the size of a terminal; of one that does not run yet, the size to begin with."""
        if process == "init" and not container.live:
            container.window = (rows, columns)
            return
        cid, pid = container.id, process
        if process != "init":
            cid, pid = (await self.execs.find(process, container)).place
        await self.client_of(container).resize(cid, pid, rows, columns)

    def client_of(self, container: Container) -> SandboxClient:
        """The sandbox of a running container. Raises NotRunning."""
        pod = self.pod_of(container)
        check_not_suspended(pod, container)
        client = pod.client
        if client is None or not container.live:
            raise NotRunning(f"container {container.name} is not running")
        if container.state.status == Status.PAUSED:
            raise NotRunning(f"container {container.name} is paused: unpause it first")
        return client

    def record_end(self, container: Container, status: ExitStatus) -> None:
        """Store how a container ended while hyperd was away."""
        self.runner.record(self.pod_of(container), container, status)
