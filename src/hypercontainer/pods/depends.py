"""The order in which the containers of a pod are started."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace

from ..errors import Conflict
from .model import Container, Pod, Status

_COMPLETION_BOUND = 3600.0


def with_dependencies(pod: Pod, containers: Sequence[Container]) -> list[Container]:
    """Those containers and what they depend on, each after what it depends on."""
    by_name = {c.name: c for c in pod.containers}
    result: list[Container] = []

    def visit(container: Container) -> None:
        if container in result:
            return
        for dependency in container.spec.depends:
            if dependency.name in by_name:
                visit(by_name[dependency.name])
        result.append(container)

    for container in containers:
        visit(container)
    return result


def left_needing(pod: Pod, gone: Sequence[Container]) -> list[Container]:
    """The other containers of a pod that depend on one that goes."""
    names = {container.name for container in gone}
    return [
        c for c in pod.containers if c not in gone and any(d.name in names for d in c.spec.depends)
    ]


def forget_dependencies(containers: Sequence[Container], names: Collection[str]) -> None:
    """Let containers depend on those names no longer."""
    for container in containers:
        _respecify(container, lambda name: None if name in names else name)


def rename_dependency(containers: Sequence[Container], old: str, new: str) -> None:
    """Let containers depend on a container by its new name."""
    for container in containers:
        _respecify(container, lambda name: new if name == old else name)


def _respecify(container: Container, change: Callable[[str], str | None]) -> None:
    """Change the names that a container depends on, in its specification as given and as read."""
    raw = {key: value for key, value in container.raw.items() if key.lower() != "depends"}
    new = [
        replace(dependency, name=name)
        for dependency in container.spec.depends
        if (name := change(dependency.name)) is not None
    ]
    raw["depends"] = [asdict(dependency) for dependency in new]
    container.raw = raw
    container.spec = replace(container.spec, depends=tuple(new))


def needs_start(container: Container, chosen: Sequence[Container]) -> bool:
    """Whether a container is to be started: a chosen one, or a dependency that is not met."""
    if container.live or container.state.status == Status.STARTING:
        return False
    completed = container.state.status == Status.EXITED and container.state.exit_code == 0
    return container in chosen or not completed


async def dependencies_met(pod: Pod, container: Container) -> None:
    """Wait until a container may start. Raises Conflict when it never may."""
    by_name = {c.name: c for c in pod.containers}
    for dependency in container.spec.depends:
        other = by_name.get(dependency.name)
        if other is None:
            continue
        why = ""
        if dependency.condition == "healthy":
            why = await _healthy(pod, other)
        elif dependency.condition == "completed":
            why = await _completed(pod, other)
        if why:
            raise Conflict(f"container {container.name} depends on {other.name}, which {why}")


async def _healthy(pod: Pod, other: Container) -> str:
    """Why a container is not healthy; "" when it is."""
    if other.health is None:
        return "has no health check"
    waits = [other.health.known.wait(), other.ended.wait(), pod.given_up.wait()]
    await _first(waits, other.health.spec.longest)
    if not other.live:
        return f"has ended with {other.state.exit_code}"
    if pod.given_up.is_set():
        return "is being stopped"
    return "" if other.state.health == "healthy" else f"is {other.state.health or 'not healthy'}"


async def _completed(pod: Pod, other: Container) -> str:
    await _first([other.ended.wait(), pod.given_up.wait()], _COMPLETION_BOUND)
    if not other.ended.is_set():
        return "is being stopped" if pod.given_up.is_set() else "still runs after an hour"
    code = other.state.exit_code
    return f"has ended with {code}" if code else ""


async def _first(waits: Sequence[object], bound: float) -> None:
    """Wait for the first of some, at most `bound` seconds."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, timeout=bound, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
