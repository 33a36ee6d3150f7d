"""The pods and containers that hyperd knows, in memory; finding them by name or id."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

from ..errors import BadRequest, NotFound
from .events import Events
from .model import Container, Pod, Status

_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Gone:
    """What is remembered of a container that was removed: for those who ask for its exit code."""

    name: str
    exit_code: int
    cleared: asyncio.Event


class Registry:
    """All pods by id, containers by id and name, and what was removed lately."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.events = Events()
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._gone: OrderedDict[str, Gone] = OrderedDict()

    def pod(self, pod_id: str) -> Pod:
        """A pod by its id, or by the name or id of a container of it. Raises NotFound."""
        if pod_id in self.pods:
            return self.pods[pod_id]
        try:
            return self.pods[self.container(pod_id).pod_id]
        except NotFound:
            raise NotFound(f"no such pod: {pod_id}") from None

    def container(self, reference: str) -> Container:
        """A container by name, id, or unique beginning of its id. Raises NotFound, BadRequest."""
        name = reference.removeprefix("/")
        if cid := self._names.get(name):
            return self._containers[cid]
        if name in self._containers:
            return self._containers[name]
        found = [c for cid, c in self._containers.items() if name and cid.startswith(name)]
        if len(found) > 1:
            raise BadRequest(f"container {name}: {len(found)} ids begin so: give more of the id")
        if not found and name in self.pods:
            found = self.pods[name].containers[:1]
        if not found:
            raise NotFound(f"no such container: {name}")
        return found[0]

    def one(self, reference: str) -> Container:
        """A container that is to be changed: a pod's id is not enough where it has several.

        Raises NotFound, BadRequest.
        """
        container = self.container(reference)
        name = reference.removeprefix("/")
        pod = self.pods.get(name)
        if pod and len(pod.containers) > 1 and self.by_name(name) is None:
            names = ", ".join(c.name for c in pod.containers)
            raise BadRequest(
                f"{name} is a pod of {len(pod.containers)} containers: name one of them ({names}),"
                " or use `hyper pod` for all"
            )
        return container

    def pod_of(self, container: Container) -> Pod:
        """The pod of a container."""
        return self.pods[container.pod_id]

    def uses_image(self, image_id: str) -> str:
        """What is made of that image, in words: a container; "" for nothing."""
        used = any(c.image_id == image_id for c in self._containers.values())
        return "a container" if used else ""

    @property
    def containers(self) -> list[Container]:
        """All containers."""
        return list(self._containers.values())

    def by_name(self, name: str) -> Container | None:
        """The container of that very name."""
        cid = self._names.get(name)
        return self._containers[cid] if cid else None

    def knows(self, container: Container) -> bool:
        """Whether it was not removed."""
        return self._containers.get(container.id) is container

    def clearing(self, container: Container) -> asyncio.Event | None:
        """Set once a removed container is cleared away; None when it is not removed."""
        gone = self._gone.get(container.id)
        return gone.cleared if gone else None

    def taken(self, name: str) -> bool:
        """Whether a container, or a pod of several, has that name.

        A pod of one container goes by the container's name: renamed, it leaves the old one free.
        """
        pod = self.pods.get(name)
        return name in self._names or (pod is not None and len(pod.containers) != 1)

    def add(self, pod: Pod) -> None:
        """Take in a pod with its containers."""
        self.pods[pod.id] = pod
        for container in pod.containers:
            self._containers[container.id] = container
            self._names[container.name] = container.id
            if container.state.status in (Status.EXITED, Status.REMOVING):
                container.ended.set()

    def rename(self, container: Container, name: str) -> None:
        """Let a container be found by another name."""
        self._names.pop(container.name, None)
        container.name = name
        self._names[name] = container.id

    def withdraw(self, pod: Pod) -> None:
        """Forget a pod that has not come to be; nobody was told of it."""
        self.pods.pop(pod.id, None)
        for container in pod.containers:
            self._containers.pop(container.id, None)
            self._names.pop(container.name, None)
            container.ended.set()

    def forget(self, pod: Pod, containers: list[Container]) -> asyncio.Event:
        """Drop from memory; the event of the result is to be set once the rest is cleared."""
        cleared = asyncio.Event()
        for container in containers:
            self._containers.pop(container.id, None)
            self._names.pop(container.name, None)
            self._gone[container.id] = Gone(container.name, container.state.exit_code, cleared)
            for future, _ in container.waiting:
                if not future.done():
                    future.set_exception(NotFound(f"container {container.name} was removed"))
            container.ended.set()
            self.events.container("destroy", pod, container)
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)
        if set(containers) == set(pod.containers):
            self.pods.pop(pod.id, None)
            self.events.pod("destroy", pod)
        else:
            pod.containers = [c for c in pod.containers if c not in containers]
            kept = tuple(c.spec for c in pod.containers)
            pod.spec = replace(pod.spec, containers=kept)
        return cleared

    def remembered(self, reference: str) -> Gone:
        """A container that was removed lately, by id or name. Raises NotFound."""
        if reference in self._gone:
            return self._gone[reference]
        for gone in reversed(self._gone.values()):
            if gone.name == reference:
                return gone
        raise NotFound(f"no such container: {reference}")
