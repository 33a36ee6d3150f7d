"""What hyperd does when it starts: find what went on without it, clear what nobody owns."""

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING, Any

from ..errors import HyperError
from ..sandbox import ExitStatus, SandboxClient, SandboxState, read_state
from ..sandbox.state import HOST_RESTARTED
from ..system import processes
from .model import Container, Pod, State, Status, now
from .sandboxes import clear_orphans, end_sandbox, exit_from_state

if TYPE_CHECKING:
    from .runner import Runner
    from .service import PodService

log = logging.getLogger(__name__)

_INTERRUPTED = "hyperd was killed while it started the container"


async def recover(service: "PodService", runner: "Runner") -> None:
    """Bring pods, sandboxes and disks in line with each other."""
    for pod in list(service.pods.values()):
        await _recover_pod(service, runner, pod)
    await service.suspending.clear()
    await _clear_sandboxes(service)
    await clear_orphans()
    await asyncio.to_thread(_clear_containers, service)


async def _recover_pod(service: "PodService", runner: "Runner", pod: Pod) -> None:
    state_dir = service.layout.sandbox(pod.id)
    state = read_state(state_dir)
    alive = state is not None and state["alive"]
    if await service.suspending.recover(pod, alive=alive):
        return
    if any(c.state.status == Status.STARTING for c in pod.containers):
        if not any(c.live for c in pod.containers):
            await end_sandbox(state_dir, patience=0.0)
            state, alive = None, False
        else:
            await _undo(pod, SandboxClient(state_dir))
        _interrupted(service, pod)
    removing = [c for c in pod.containers if c.state.status == Status.REMOVING]
    if alive and state is not None and pod.live:
        pod.client = SandboxClient(state_dir)
    for container in [c for c in pod.containers if c.live]:
        if pod.client is not None and state is not None:
            log.info("container %s goes on in pid %s", container.name, state["pid"])
            _sync_pause(container, state)
            service.store.save(container)
            runner.watch(pod, container, pod.client)
        else:
            log.info("container %s ended while hyperd was away", container.name)
            service.record_end(container, _end_of(container, state))
    for container in pod.containers:
        status, stopped = container.state.status, container.state.stopped
        at_boot = status == Status.EXITED and container.spec.restart.wants_at_boot(stopped=stopped)
        if status == Status.RESTARTING or at_boot:
            service.await_restart(pod, container)
    ended = all(c.state.status == Status.EXITED for c in pod.containers)
    if ended and pod.spec.auto_remove and pod.id in service.pods:
        service.pod_ended(pod)
    if removing:
        volumes_too = any(c.state.volumes_too for c in removing)
        await service.remove(pod, removing, force=True, volumes=volumes_too)


def _end_of(container: Container, state: SandboxState | None) -> ExitStatus:
    """How a container ended of whose VM nothing runs."""
    if state is None and container.state.boot not in ("", processes.boot_id()):
        return ExitStatus(255, 0, False, HOST_RESTARTED, "")
    return exit_from_state(state, container.id)


def _sync_pause(container: Container, state: dict[str, Any]) -> None:
    own = (state.get("containers") or {}).get(container.id) or {}
    paused = "paused" in (state["status"], own.get("status"))
    container.state.status = Status.PAUSED if paused else Status.RUNNING


async def _undo(pod: Pod, client: SandboxClient) -> None:
    """Take half-started containers from a VM in which others run."""
    for container in pod.containers:
        if container.state.status == Status.STARTING:
            try:
                await client.remove_container(container.id, force=True)
            except HyperError as error:
                log.info("container %s: %s", container.name, error)


def _interrupted(service: "PodService", pod: Pod) -> None:
    for container in pod.containers:
        if container.state.status == Status.STARTING:
            restarts = container.state.restarts
            again = container.spec.restart.wants(125, restarts, stopped=False)
            container.state = State(
                status=Status.RESTARTING if again else Status.EXITED,
                exit_code=125,
                error=_INTERRUPTED,
                finished_at=now(),
                restarts=restarts,
            )
            container.ended.set()
            service.store.save(container)
    if not pod.live:
        service.pod_ended(pod)


async def _clear_sandboxes(service: "PodService") -> None:
    """End the sandboxes whose pod is gone or does not run."""
    directory = service.layout.sandboxes
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        pod = service.pods.get(path.name)
        if pod is not None and pod.client is not None:
            continue
        if pod is None:
            log.warning("clearing the sandbox of no pod: %s", path)
        try:
            await end_sandbox(path, patience=0.0)
        except (HyperError, OSError) as error:
            log.error("clearing %s: %s", path, error)


def _clear_containers(service: "PodService") -> None:
    """Remove directories of containers that a crash left without a row."""
    known = {container.id for container in service.containers}
    directory = service.layout.containers
    for path in directory.iterdir() if directory.is_dir() else []:
        if path.name not in known:
            log.warning("clearing the files of no container: %s", path)
            shutil.rmtree(path, ignore_errors=True)
