"""What happens to containers besides starting and ending: new names, restarts, pruning."""

import asyncio
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest, Conflict, HyperError
from .model import Container, Status
from .names import check_name
from .views import labels, unix_time

if TYPE_CHECKING:
    from .service import PodService

_ENDED = (Status.CREATED, Status.EXITED)
_FILTERS = ("label", "label!", "until")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


async def rename(service: "PodService", container: Container, name: str) -> None:
    """Give a container another name; its pod and its host name keep theirs.

    Raises BadRequest, Conflict.
    """
    name = name.removeprefix("/")
    check_name(name, "newName")
    old = container.name
    pod = service.pod_of(container)
    async with pod.lock:
        if name == old:
            raise Conflict(f"container {old} has that name already")
        if service.taken(name) and name != pod.id:
            raise Conflict(f"the name {name} is in use: choose another, or remove that one first")
        service.rename(container, name)
        try:
            service.store.save(container)
        except HyperError:
            service.rename(container, old)
            raise
    service.events.container("rename", pod, container, oldName=f"/{old}")


async def restart(service: "PodService", container: Container, grace: float | None) -> None:
    """Stop a container if it runs, and start it. Grace in seconds, None: as it was created."""
    pod = service.pod_of(container)
    await service.stop(pod, [container], grace)
    await service.start(pod, [container])
    service.events.container("restart", pod, container)


async def prune(service: "PodService", filters: Mapping[str, list[str]]) -> tuple[list[str], int]:
    """Remove the containers that don't run; their ids, and the bytes that they took on disk.

    Filters are `label`, `label!` and `until` (as Docker's). Raises BadRequest.
    """
    for key in filters:
        if key not in _FILTERS:
            raise BadRequest(f"filters: {key!r} is none of {', '.join(_FILTERS)}")
    before = min((_until(value) for value in filters.get("until", [])), default=time.time())
    removed, size = [], 0
    for container in service.containers:
        if container.state.status not in _ENDED or unix_time(container.created_at) > before:
            continue
        if not _labelled(service, container, filters):
            continue
        pod = service.pod_of(container)
        taken = await asyncio.to_thread(disk_usage, service.layout.container(container.id))
        try:
            await service.remove(pod, [container])
        except Conflict:
            continue  # it was started meanwhile
        removed.append(container.id)
        size += taken
    return removed, size


def _labelled(
    service: "PodService", container: Container, filters: Mapping[str, list[str]]
) -> bool:
    have = labels(service.pod_of(container), container)

    def has(wanted: str) -> bool:
        name, equals, value = wanted.partition("=")
        return name in have and (not equals or have[name] == value)

    return all(map(has, filters.get("label", []))) and not any(map(has, filters.get("label!", [])))


def _until(value: str) -> float:
    """Seconds since 1970 of a span before now, such as `24h`, or of a time. Raises BadRequest."""
    spans = _SPAN.findall(value)
    if spans and "".join(number + unit for number, unit in spans) == value:
        return time.time() - sum(float(number) * _UNITS[unit] for number, unit in spans)
    try:
        return float(value) if value.isascii() and value.isdigit() else unix_time(value)
    except (ValueError, OverflowError):
        raise BadRequest(f"filters: until: {value!r} is neither a time nor a span") from None


def disk_usage(path: Path) -> int:
    """The bytes that a file, or a directory and all in it, takes on disk; 0 when it is gone."""
    total = 0
    try:
        total = path.lstat().st_blocks * 512
        if path.is_dir():
            total += sum(disk_usage(entry) for entry in path.iterdir())
    except FileNotFoundError:
        pass
    return total
