"""Running pods: launching their VMs, watching their containers, and clearing up after them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import BadRequest, HyperError
from ..images import ImageStore
from ..sandbox import ExitStatus, SandboxClient, VMConfig, Zygote, launch, read_state
from ..system import processes
from ..system.tasks import Tasks
from ..volumes import VolumeStore
from .attempt import Stopwatch, as_hyper_error
from .depends import dependencies_met
from .events import Events
from .health import HealthChecks
from .layout import Layout
from .logtarget import log_target
from .model import LIVE, Container, Pod, State, Status, now, seconds_between
from .mounts import all_mounts, needs_share
from .networking import Networking
from .plans import Defaults, Plan, Planner
from .restart_policy import next_delay
from .restarts import Restarts
from .sandboxes import end_sandbox, exit_of, remove_log, remove_tree
from .stopping import Stopping
from .store import Store

log = logging.getLogger(__name__)

_ATTACH_BOUND = 30.0


class Runner:
    """Starts pods and sees to their ends.

    `on_end` is told of each pod whose VM is to go. With a `zygote`, VMs start
    quicker. Methods that change a pod are called with its lock held.
    """

    def __init__(
        self,
        layout: Layout,
        store: Store,
        images: ImageStore,
        defaults: Defaults,
        events: Events,
        volumes: VolumeStore,
        on_end: Callable[[Pod], None],
        restarts: Restarts,
        networking: Networking,
    ) -> None:
        self.zygote: Zygote | None = None
        self._layout = layout
        self._store = store
        self.planner = Planner(layout, images, defaults, volumes)
        self._volumes = volumes
        self._defaults = defaults
        self._events = events
        self._on_end = on_end
        self._restarts = restarts
        self._networking = networking
        self._health = HealthChecks(events)
        self.stopping = Stopping(store, events, self.ended)
        self._watchers = Tasks()
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._endings: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Stop watching; the VMs go on."""
        await self._health.close()
        for task in [*self._watchers, *self._endings.values()]:
            task.cancel()

    async def start(self, pod: Pod, containers: list[Container], *, again: bool = False) -> None:
        """Start containers of a pod, in a new VM unless it has one; `again` by their policy.

        When a step fails everything is undone, the containers' states say why,
        and the error is raised.
        """
        clock = Stopwatch()
        await self.ended(pod.id)
        fresh = pod.client is None
        for container in containers:
            restarts = container.state.restarts + 1 if again else 0
            container.state = State(
                status=Status.STARTING, restarts=restarts, boot=processes.boot_id()
            )
            container.ended = asyncio.Event()
            container.kill_reason = ""
        self._store.save(*containers)
        try:
            if fresh:
                await self._networking.claim(pod)
            plans = [await self._plan(pod, container) for container in containers]
            clock.lap("planned")
            client = await self._vm(pod, plans)
            clock.lap("launched")
            async with self._networking.wired(pod, client) if fresh else contextlib.nullcontext():
                for plan in plans:
                    await self._create(pod, client, plan)
                clock.lap("created")
            clock.lap("wired")
            for plan in plans:
                await self._begin(pod, plan, client, fresh=fresh and plan is plans[0])
            clock.lap("started")
        except Exception as error:
            failure = as_hyper_error(error, pod)
            left = [c for c in containers if c.state.status == Status.STARTING]
            await self._undo(pod, left, fresh and left == containers)
            self._fail(pod, left, failure)
            raise failure from error
        log.debug("start of %s: %s", pod.id, clock)

    async def _begin(self, pod: Pod, plan: Plan, client: SandboxClient, *, fresh: bool) -> None:
        """Start a created container, once what it depends on is there."""
        container = plan.container
        await dependencies_met(pod, container)
        await client.start_container(container.id)
        container.state.status = Status.RUNNING
        container.state.started_at = now()
        self._store.save(container)
        if fresh:
            self._events.pod("start", pod)
        self._events.container("start", pod, container)
        self.watch(pod, container, client)
        await self.connect(client, container, plan.stdin)

    async def _plan(self, pod: Pod, container: Container) -> Plan:
        plan = self.planner.plan(pod, container, await self.planner.gather(container))
        shared = needs_share(self._volumes, [container])
        state = read_state(pod.client.state_dir) if pod.client is not None and shared else None
        if state is not None and not state.get("share", True):
            raise BadRequest(
                f"container {container.name}: the virtual machine of pod {pod.id} was started"
                " without a share, so that directories can't be added while it runs: put share:"
                " true in the pod's specification, or use volumes of the driver disk"
            )
        return plan

    async def _vm(self, pod: Pod, plans: list[Plan]) -> SandboxClient:
        """The pod's VM, launched if it has none, while the containers' disks are made."""
        made = asyncio.gather(
            *(asyncio.to_thread(self.planner.make_disk, plan.container) for plan in plans)
        )
        try:
            client = pod.client or await self._launch(pod)
        except BaseException:
            await asyncio.wait([made])
            raise
        await made
        return client

    async def _launch(self, pod: Pod) -> SandboxClient:
        state_dir = self._layout.sandbox(pod.id)
        await end_sandbox(state_dir, patience=0.0)
        share = pod.spec.share or needs_share(self._volumes, pod.containers)
        pod.client = await launch(
            pod.id,
            state_dir,
            self.vm_of(pod, share=share),
            wait=False,
            zygote=self.zygote,
            keep=self._defaults.factory.after_use,
        )
        return pod.client

    def vm_of(self, pod: Pod, *, share: bool) -> VMConfig:
        """The VM of a pod; with `share` it can see directories of the host."""
        has_volumes = any(all_mounts(container) for container in pod.containers)
        return VMConfig(
            **self._defaults.of_vms(self.planner.architecture(pod.containers)),
            cpus=pod.spec.vcpu,
            memory_mib=pod.spec.memory,
            share=share,
            linger=False,
            ephemeral=pod.spec.auto_remove and not has_volumes,
            network="user" if pod.spec.network == "user" else "none",
        )

    async def _create(self, pod: Pod, client: SandboxClient, plan: Plan) -> None:
        """Create a container in the VM and connect those who attached before."""
        container = plan.container
        async with self._volumes.filling(plan.filled):
            await client.create_container(
                container.id,
                plan.config,
                plan.rootfs,
                files=plan.files,
                log=self.log_for(pod, container),
                stdin=plan.stdin,
            )
        self.note_pid(client, container)
        await self.connect(client, container, plan.stdin)

    def note_pid(self, client: SandboxClient, container: Container) -> None:
        """Take over the pid that a container's first process has in the guest."""
        state = read_state(client.state_dir) or {}
        known = state.get("containers", {}).get(container.id) or {}
        container.state.pid = int(known.get("pid") or 0)

    def log_for(self, pod: Pod, container: Container) -> dict[str, Any]:
        """Where the sandbox writes a container's output, as it is told."""
        path = self._layout.log(pod.id, container.id)
        config = pod.spec.log.over(self._defaults.log)
        if config.keeps:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        return log_target(pod, container, config, path)

    async def connect(self, client: SandboxClient, container: Container, stdin: bool) -> None:
        """Give their streams to those who attached before there were any."""
        waiting, container.waiting = container.waiting, []
        for future, wanted in waiting:
            if future.done():
                continue
            try:
                async with asyncio.timeout(_ATTACH_BOUND):
                    attachment = await client.attach(container.id, stdin=wanted and stdin)
            except HyperError as error:
                if not future.done():
                    future.set_exception(error)
                continue
            if future.done():
                attachment[1].close()
            else:
                future.set_result(attachment)

    async def _undo(self, pod: Pod, containers: list[Container], fresh: bool) -> None:
        """Take back what a failed start did."""
        client = pod.client
        if fresh or client is None:
            pod.client = None
            await self._end(self._layout.sandbox(pod.id), patience=0.0)
            return
        for container in containers:
            with contextlib.suppress(HyperError):
                await client.remove_container(container.id, force=True)

    def _fail(self, pod: Pod, containers: list[Container], error: HyperError) -> None:
        for container in containers:
            container.state = State(
                status=Status.EXITED,
                restarts=container.state.restarts,
                exit_code=error.exit_code,
                error=error.message,
                finished_at=now(),
            )
            waiting, container.waiting = container.waiting, []
            for future, _ in waiting:
                if not future.done():
                    future.set_exception(error)
        self._save_if_possible(*containers)
        self._settle(pod, containers)

    def _save_if_possible(self, *containers: Container) -> None:
        """An end is an end even if the disk is full: the next hyperd finds it out again."""
        try:
            self._store.save(*containers)
        except HyperError as error:
            log.error("%s", error)

    def watch(self, pod: Pod, container: Container, client: SandboxClient) -> None:
        """Record the end of a running container when it comes."""
        self._health.begin(pod, container, client)
        self._watching[container.id] = self._watchers.spawn(self._watch(pod, container, client))

    def let_go(self, container: Container) -> None:
        """Watch a container no longer, whose VM ends though it does not."""
        self._health.end(container)
        if (task := self._watching.pop(container.id, None)) is not None:
            task.cancel()

    async def _watch(self, pod: Pod, container: Container, client: SandboxClient) -> None:
        try:
            status = await exit_of(client, container.id)
        except Exception as error:
            log.exception("watching container %s", container.name)
            status = ExitStatus(137, 9, False, f"hyperd lost sight of it: {error}", "")
        others = [c for c in pod.containers if c.state.status in (*LIVE, Status.STARTING)]
        if others != [container] and pod.client is client:
            with contextlib.suppress(HyperError):
                await client.remove_container(container.id)
        self.record(pod, container, status)

    def record(self, pod: Pod, container: Container, status: ExitStatus) -> None:
        """Store how a container ended; the last one of a pod ends its VM."""
        self._health.end(container)
        self._watching.pop(container.id, None)
        state = container.state
        state.exit_code, state.signal, state.oom = status.code, status.signal, status.oom
        state.reason = status.reason
        if status.signal == 9 and container.kill_reason and not status.oom:
            state.reason = container.kill_reason
        state.finished_at = status.finished_at or now()
        state.pid = 0
        again = self._stands_again(container)
        self._save_if_possible(container)
        if status.oom:
            self._events.container("oom", pod, container)
        about = {"exitCode": str(state.exit_code), "reason": state.reason}
        self._events.container("die", pod, container, **about)
        self._settle(pod, [container])
        if again:
            ran = seconds_between(state.started_at, state.finished_at)
            self._restarts.schedule(pod, container, next_delay(container.delay, ran))

    def _stands_again(self, container: Container) -> bool:
        """Choose between exited and restarting."""
        state = container.state
        again = container.spec.restart.wants(state.exit_code, state.restarts, stopped=state.stopped)
        state.status = Status.RESTARTING if again else Status.EXITED
        return again

    def _settle(self, pod: Pod, ended: list[Container]) -> None:
        """After an end: clear up when it was the pod's last, then wake those who wait."""
        if not any(c.state.status in (*LIVE, Status.STARTING) for c in pod.containers):
            pod.client = None
            self._endings[pod.id] = asyncio.create_task(self._clear(pod))
            self._events.pod("stop", pod)
            self._on_end(pod)
        for container in ended:
            container.ended.set()

    async def _clear(self, pod: Pod) -> None:
        try:
            await self._end(self._layout.sandbox(pod.id))
            await self._networking.networks.release(pod.id)
        finally:
            if self._endings.get(pod.id) is asyncio.current_task():
                del self._endings[pod.id]

    async def end(self, pod: Pod) -> None:
        """End a pod's VM at once, and clear up after it."""
        await self._end(self._layout.sandbox(pod.id), patience=0.0)

    async def _end(self, state_dir: Path, **options: float) -> None:
        try:
            await end_sandbox(state_dir, **options)
        except (HyperError, OSError) as error:
            log.error("clearing %s: %s", state_dir, error)

    async def ended(self, pod_id: str) -> None:
        """Wait until nothing is left of a VM that is ending."""
        while (task := self._endings.get(pod_id)) is not None:
            await asyncio.wait([task])

    async def remove_files(self, pod_id: str, containers: list[Container]) -> None:
        """Remove what containers have on disk, once their VM is gone."""
        await self.ended(pod_id)
        for container in containers:
            await asyncio.to_thread(remove_tree, self._layout.container(container.id))
            await asyncio.to_thread(remove_log, self._layout.log(pod_id, container.id))
