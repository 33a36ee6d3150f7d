"""What a sandbox does on request: containers and their processes in one VM."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from ..errors import Conflict, HyperError, NotFound, NotRunning, VMError
from ..guest import spec
from ..guest.fields import read_object
from ..guest.protocol import Code
from ..system.tasks import Tasks
from .cards import Cards
from .config import VMConfig
from .containers import INIT, Container, Containers, Process, check_id, exit_status, now, shown_args
from .followed import FollowedNetwork
from .holdings import Holdings
from .logs import open_log
from .share import Share
from .state import write_state
from .vm import VirtualMachine

_MAX_PROCESSES = 1024


class Sandbox:
    """One VM and its containers. Its state file is written at each change."""

    def __init__(
        self, sandbox_id: str, state_dir: str, config: VMConfig, share: Share | None
    ) -> None:
        self.sandbox_id = sandbox_id
        self.config = config
        self.containers = Containers()
        self.status = "booting"
        self.reason = ""
        self.used = asyncio.Event()
        self.empty = asyncio.Event()
        self.abandoned = asyncio.Event()
        self.listeners: set[Callable[[dict[str, Any]], None]] = set()
        # Containers that are frozen in the guest though they are not paused: until `thaw`.
        self.frozen: list[str] = []
        # Clear while another VM may have to take the place of the first.
        self.has_its_vm = asyncio.Event()
        self.has_its_vm.set()
        self.vm: VirtualMachine
        self.holdings: Holdings
        self.cards: Cards
        self._state_dir = state_dir
        self._share = share
        self._network = FollowedNetwork(state_dir, self.spawn)
        self._own: dict[str, Any] = {}
        self._tasks = Tasks()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.moved: asyncio.Future[None] | None = None
        # Held by who gives the VM more memory or CPUs.
        self.growing = asyncio.Lock()

    def own(self, vm: VirtualMachine, about: dict[str, Any]) -> None:
        """Take the VM; `about` is what the state file says of this process."""
        self.vm = vm
        self.holdings = Holdings(vm, self._share)
        self.cards = Cards(vm)
        self._own = about
        self.save()

    def to_json(self) -> dict[str, Any]:
        """The state, as in the state file."""
        return {
            **self._own,
            "id": self.sandbox_id,
            "status": self.status,
            "reason": self.reason,
            "guest": self.vm.guest,
            "containers": self.containers.to_json(),
            "cards": self.cards.to_json(),
            "ports": self.cards.ports_to_json(),
        }

    @property
    def memory_mib(self) -> int:
        """What the VM has, in MiB, with what was plugged while it ran."""
        return int(self._own["memory_mib"])

    def has_memory(self, mib: int) -> None:
        """The VM has another size from now on."""
        self._own["memory_mib"] = mib
        self.save()

    @property
    def cpus(self) -> int:
        """How many CPUs the VM has, with those that were plugged while it ran."""
        return int(self._own["cpus"])

    def has_cpus(self, count: int) -> None:
        """The VM has another number of CPUs from now on."""
        self._own["cpus"] = count
        self.save()

    def save(self) -> None:
        """Write the state file."""
        write_state(self._state_dir, self.to_json())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the requests."""
        self._tasks.spawn(work)

    async def settle(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for what `spawn` started."""
        if pending := [t for t in self._tasks if t is not asyncio.current_task()]:
            await asyncio.wait(pending, timeout=timeout)

    def on_event(self, payload: dict[str, Any]) -> None:
        """An event of the guest: a process has ended."""
        try:
            container = self.containers.get(payload.get("container"))
            process = container.process(str(payload.get("process")))
        except NotFound:
            return
        self.spawn(self._finish(container, process, exit_status(payload)))

    async def _finish(self, container: Container, process: Process, status: dict[str, Any]) -> None:
        if process.exiting:
            await asyncio.shield(process.finished)
            return
        await process.finish(status)
        if process.pid == INIT and container.status != "stopped":
            container.status = "stopped"
            container.exit = process.finished.result()
            self.save()
        self._tell({"type": "exit", "container": container.cid, "process": process.pid, **status})
        if all(c.status == "stopped" or c.auxiliary for c in self.containers):
            self.empty.set()

    def _tell(self, event: dict[str, Any]) -> None:
        for listener in list(self.listeners):
            listener(event)

    async def lost(self, reason: str) -> None:
        """The VM is gone: every process that was left ended with it."""
        self.status, self.reason = "stopped", reason
        self.used.set()
        self.empty.set()
        status = {"code": 137, "signal": 9, "oom": False, "reason": reason}
        for container in self.containers:
            for process in list(container.processes.values()):
                if not process.finished.done():
                    await self._finish(container, process, dict(status))
        self.save()
        self._tell({"type": "stopped", "reason": reason})

    async def create_container(
        self,
        cid: str,
        config: dict[str, Any],
        rootfs: dict[str, Any],
        files: list[dict[str, Any]],
        log: dict[str, Any] | None,
        stdin: bool,
        *,
        join: dict[str, str] | None = None,
        auxiliary: bool = False,
    ) -> Container:
        """Create a container up to the point before its program runs.

        `join` names for a kind of namespace the container that it is shared with. An
        `auxiliary` one does not keep the VM alive.
        """
        container = Container(check_id("container", cid))
        container.auxiliary = auxiliary
        self.containers.add(container)
        try:
            async with self._resources_of(container):
                await self._create(container, config, rootfs, files, log, stdin, join or {})
        except BaseException:
            self.containers.drop(container.cid)
            raise
        if not auxiliary:
            self.used.set()
            self.empty.clear()
        self.save()
        return container

    @asynccontextmanager
    async def _resources_of(self, container: Container) -> AsyncIterator[None]:
        """Give back disks, share and streams when the body fails.

        While the VM comes up, why it did not is a better error than what it led to.
        """
        try:
            yield
        except BaseException as error:
            with suppress(HyperError, OSError):
                await self.holdings.release(container)
            if isinstance(error, VMError) and self.ready.done():
                raise self.ready.exception() or error from None
            raise

    async def _create(
        self,
        container: Container,
        config: dict[str, Any],
        rootfs: dict[str, Any],
        files: list[dict[str, Any]],
        log: dict[str, Any] | None,
        stdin: bool,
        join: dict[str, str],
    ) -> None:
        config = await self._network.with_resolver(container, config)
        oci = read_object(config, "process")
        process = Process(
            self.vm.streams,
            INIT,
            terminal=bool(oci.get("terminal")),
            stdin=stdin,
            hold=log is None,
        )
        container.processes[INIT] = process
        disks = {
            disk["path"]: await self.holdings.disk(
                container, disk, read_only=disk["read_only"], shared=True
            )
            for disk in spec.disk_mounts(config)
        }
        message = spec.container_message(
            container.cid,
            config,
            await self.holdings.rootfs(container, rootfs),
            lambda source, read_only: self.holdings.bind(container, source, read_only=read_only),
            spec.process_message(
                INIT, oci, stdio=process.stdio, stderr=process.stderr, stdin=stdin
            ),
            disks,
            self.config.architecture,
        )
        message["files"] = files
        message["join"] = {kind: self.containers.get(cid).cid for kind, cid in join.items()}
        message["namespaces"] = [n for n in message["namespaces"] if n not in join]
        container.seccomp = {
            k: v for k, v in message["process"].items() if k in spec.CONTAINER_WIDE
        }
        if log is not None:
            container.log = await open_log(log)
            for output in process.outputs:
                output.attach(container.log)
        await asyncio.shield(self.ready)
        answer = await self.vm.request(Code.NEWCONTAINER, message)
        container.guest_pid = _pid(answer)

    async def start_container(self, cid: str) -> None:
        """Let a created container's program run. Raises NotRunning in another state."""
        container = self.containers.get(cid)
        if container.status != "created":
            raise NotRunning(f"container {cid} can't be started: it is {container.status}")
        if self.moved is not None:
            # No program runs before the VM is in its container's control group.
            await asyncio.shield(self.moved)
        container.started_at = now()
        container.status = "running"
        try:
            await self.vm.request(Code.STARTCONTAINER, {"container": cid})
        except HyperError as error:
            container.status = "stopped"
            container.exit = {"code": error.exit_code, "reason": error.message}
            self.save()
            raise
        self.save()
        self._tell({"type": "start", "container": cid})

    async def exec(
        self, cid: str, pid: str, oci: dict[str, Any], *, stdin: bool, detach: bool
    ) -> int:
        """Start another process in a created or running container; returns its guest pid."""
        container = self.containers.get(cid)
        if container.status not in ("created", "running"):
            raise NotRunning(f"container {cid} is not running: it is {container.status}")
        if check_id("process", pid) in container.processes:
            raise Conflict(f"process id {pid} is in use in container {cid}")
        self.forget_finished(container)
        process = Process(
            self.vm.streams,
            pid,
            terminal=bool(oci.get("terminal")),
            stdin=stdin,
            hold=not detach,
        )
        process.args = shown_args(oci)
        container.processes[pid] = process
        try:
            message = spec.process_message(
                pid, oci, stdio=process.stdio, stderr=process.stderr, stdin=stdin
            )
            message.update(container.seccomp)
            answer = await self.vm.request(Code.EXECCMD, {"container": cid, "process": message})
        except BaseException:
            container.processes.pop(pid, None)
            process.release()
            raise
        return _pid(answer)

    def forget_finished(self, container: Container) -> None:
        """Make room for another process, if there are many."""
        if len(container.processes) < _MAX_PROCESSES:
            return
        for pid, process in list(container.processes.items()):
            if pid != INIT and process.finished.done():
                process.release()
                del container.processes[pid]

    async def signal(self, cid: str, pid: str, signum: int, *, to_all: bool) -> None:
        """Signal one process, or all of the container. Raises NotRunning when it has ended."""
        container = self.containers.get(cid)
        process = container.process(pid)
        if container.status == "stopped" or process.exiting:
            raise NotRunning(f"container {cid}: process {pid} has ended already")
        if to_all:
            await self.vm.request(Code.KILLCONTAINER, {"container": cid, "signal": signum})
        else:
            await self.vm.request(
                Code.SIGNALPROCESS, {"container": cid, "process": pid, "signal": signum}
            )

    async def freeze(self, cid: str, frozen: bool) -> None:
        """Pause or resume one container. Raises NotRunning in a wrong state."""
        container = self.containers.get(cid)
        wanted = "running" if frozen else "paused"
        if container.status != wanted:
            raise NotRunning(f"container {cid} is not {wanted}: it is {container.status}")
        await self.vm.request(Code.FREEZECONTAINER, {"container": cid, "frozen": frozen})
        container.status = "paused" if frozen else "running"
        self.save()

    async def pause(self, paused: bool) -> None:
        """Stop or continue the whole VM."""
        if self.status != ("running" if paused else "paused"):
            raise NotRunning(f"the virtual machine is {self.status}")
        await (self.vm.monitor.pause() if paused else self.vm.monitor.resume())
        self.status = "paused" if paused else "running"
        self.save()
        if not paused:
            await self.vm.set_time()
            await self.thaw()

    async def set_vm_size(self, cpus: int | None, memory_mib: int | None) -> None:
        """Let the VM have other CPUs and memory (None: as they are). Raises BadRequest."""
        from . import growing_cpus

        if self.status != "running":
            raise NotRunning(f"the virtual machine is {self.status}")
        if cpus is not None:
            await growing_cpus.set_count(self, cpus)
        if memory_mib is not None:
            await self.vm.monitor.set_memory(memory_mib)
            self.has_memory(memory_mib)
            # What containers may take follows, even where the guest then says that it can't take
            # more than it started with.
            with suppress(HyperError):
                await self.vm.request(Code.ONLINECPUMEM)

    def keep_paused(self, frozen: list[str]) -> None:
        """The VM stands still, with containers that are frozen in it."""
        self.frozen, self.status = frozen, "paused"
        self.save()

    async def thaw(self) -> None:
        """Let the containers run that are frozen though they are not paused."""
        while self.frozen:
            about = {"container": self.frozen[-1], "frozen": False}
            with suppress(NotFound):
                await self.vm.request(Code.FREEZECONTAINER, about)
            self.frozen.pop()

    @property
    def follows_network(self) -> bool:
        """Whether its network is that of a namespace."""
        return self._network.follows

    async def remove_container(self, cid: str, *, force: bool) -> None:
        """Unmount and forget a stopped container; with `force` kill it first."""
        container = self.containers.get(cid)
        if container.status != "stopped":
            if not force and container.status != "created":
                raise NotRunning(f"container {cid} is {container.status}: stop it first")
            await self.vm.request(Code.KILLCONTAINER, {"container": cid, "signal": 9})
            await asyncio.wait_for(asyncio.shield(container.process(INIT).finished), 30.0)
        if not self.vm.ended.done():
            await self.vm.request(Code.REMOVECONTAINER, {"container": cid})
        await self.holdings.release(container)
        self.containers.drop(cid)
        self.save()

    async def follow_network(self, namespace: int, *, loopback: bool = False) -> None:
        """Give the VM what a network namespace (a descriptor) has, now and when it changes.

        With `loopback` who connects to the namespace's loopback reaches the VM's.
        """
        await self._network.follow(self.vm, namespace, self.ready)
        if loopback:
            await self._network.serve_loopback(self, namespace)

    async def network_begun(self) -> None:
        """Wait for `follow_network` to be called, on which a container's name servers depend."""
        await self._network.begun()

    async def network_followed(self) -> None:
        """Wait until the VM has what `follow_network` gives it. Raises as that does."""
        await self._network.followed()

    async def flush_logs(self) -> None:
        """Let the logs' receivers have what waits for them, for a few seconds."""
        logs = [c.log.close() for c in self.containers if c.log is not None]
        await asyncio.gather(*logs, return_exceptions=True)

    async def leave_network(self) -> None:
        """Take back what `follow_network` did to the namespace, and let ports go."""
        await self.cards.close()
        await self._network.stop()


def _pid(answer: dict[str, Any]) -> int:
    pid = answer.get("pid")
    return pid if isinstance(pid, int) and 0 < pid < 1 << 22 else 0
