"""Removing pods, and containers of them."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Conflict, HyperError
from .depends import forget_dependencies, left_needing
from .model import Container, Pod, Status
from .own_volumes import own_volumes, remove_volume
from .sandboxes import remove_tree

if TYPE_CHECKING:
    from .service import PodService

log = logging.getLogger(__name__)


async def remove(
    service: "PodService", pod: Pod, containers: list[Container], *, force: bool, volumes: bool
) -> None:
    """Remove containers of a pod; with the last one goes the pod.

    Raises Conflict when one runs, or others of the pod depend on one, and `force` is not given.
    """
    if force and set(containers) >= {c for c in pod.containers if c.live}:
        for container in containers:
            service.user_ends(container)
        await service.runner.stopping.kill_vm(pod, "killed: removed by force")
    async with pod.lock:
        containers = [c for c in containers if c in pod.containers]
        live = [c for c in containers if c.live or c.state.status == Status.RESTARTING]
        if not force:
            _check_removable(pod, containers, live)
        for container in live:
            service.user_ends(container)
        if live and pod.suspended:
            await service.suspending.discard(pod, "killed: removed by force")
        if live:
            await service.runner.stopping.stop(pod, live, 0)
        if service.pods.get(pod.id) is not pod or not containers:
            return
        if needing := left_needing(pod, containers):
            forget_dependencies(needing, {c.name for c in containers})
            service.store.save_specs(*needing)
        for container in containers:
            container.state.status = Status.REMOVING
            container.state.volumes_too = volumes
        service.store.save(*containers)
        await service.runner.remove_files(pod.id, containers)
        for name in own_volumes(service, service.volumes, containers) if volumes else []:
            await remove_volume(service, service.volumes, name)
        _delete_rows(service, pod, containers)
        service.forget(pod, containers).set()


def _check_removable(pod: Pod, containers: list[Container], live: list[Container]) -> None:
    if live:
        raise Conflict(
            f"container {live[0].name} is {live[0].state.status}: stop it first,"
            " or remove it by force"
        )
    for other in left_needing(pod, containers):
        needed = {d.name for d in other.spec.depends}
        name = next(c.name for c in containers if c.name in needed)
        raise Conflict(
            f"container {other.name} depends on {name}: remove it first, or remove {name} by"
            " force, so that it is not waited for any more"
        )


def _delete_rows(service: "PodService", pod: Pod, containers: list[Container]) -> None:
    if set(containers) == set(pod.containers):
        service.store.remove_pod(pod.id)
        service.networking.networks.forget(pod.id)
    else:
        service.store.remove_containers(*(c.id for c in containers))


def forget_ended(service: "PodService", pod: Pod) -> asyncio.Task[None] | None:
    """Remove a pod that removes itself, whose last container has ended; the task clears its files.

    None when it is no such pod.
    """
    if not pod.spec.auto_remove or service.pods.get(pod.id) is not pod:
        return None
    containers = list(pod.containers)
    own = own_volumes(service, service.volumes, containers)
    gone = [service.volumes.remove_now(name) for name in own]
    try:
        _delete_rows(service, pod, containers)
    except HyperError as error:
        log.error("%s", error)
    cleared = service.forget(pod, containers)
    return asyncio.create_task(_clear(service, pod, containers, gone, cleared))


async def _clear(
    service: "PodService",
    pod: Pod,
    containers: list[Container],
    gone: list[Path],
    cleared: asyncio.Event,
) -> None:
    try:
        await service.runner.remove_files(pod.id, containers)
        for directory in gone:
            await asyncio.to_thread(remove_tree, directory)
    except OSError as error:
        log.error("clearing %s: %s", pod.id, error)
    finally:
        cleared.set()
