"""Making pods and containers of specifications: names, ids, images."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import Conflict
from ..hypervisor.foreign import check_runnable
from ..images import ImageStore
from . import oci
from .architecture import architecture_of, check_platform
from .model import Container, Pod
from .names import container_id, random_id, random_name
from .registry import Registry
from .spec import PodSpec
from .spec_container import ContainerSpec


def named(registry: Registry, spec: PodSpec) -> PodSpec:
    """With an id for the pod and a name for each container. Raises Conflict."""
    alone = len(spec.containers) == 1
    pod_id = spec.id or (spec.containers[0].name if alone else "")
    pod_id = pod_id or free_id(registry, len(spec.containers))
    containers = []
    for index, container in enumerate(spec.containers):
        name = container.name or (pod_id if alone else f"{pod_id}-{index}")
        _check_free(registry, name)
        containers.append(replace(container, name=name))
    if pod_id in registry.pods:
        if registry.taken(pod_id) or [c.name for c in containers] != [pod_id]:
            raise Conflict(f"the name {pod_id} is in use: choose another, or remove that one first")
        pod_id = random_id("pod")  # its only container was renamed, and has left the name free
    return replace(spec, id=pod_id, containers=tuple(containers))


def free_id(registry: Registry, containers: int) -> str:
    """An id for a pod of so many containers that was given none: of one, that is its name."""
    return random_name(registry.taken) if containers == 1 else random_id("pod")


def container_of(
    images: ImageStore, pod: Pod, spec: ContainerSpec, raw: dict[str, Any], created_at: str
) -> Container:
    """A new container. Raises NotFound (its image), BadRequest (nothing to run)."""
    image = images.get(spec.image)
    check_platform(image, spec.platform, spec.image)
    container = Container(
        id=container_id(),
        pod_id=pod.id,
        name=spec.name,
        spec=spec,
        image=spec.image,
        image_id=image.id,
        image_config=dict(image.config.get("config") or {}),
        created_at=created_at,
        raw=raw,
    )
    oci.command_of(spec, container.image_config)
    return container


def check_architecture(images: ImageStore, containers: Sequence[Container]) -> None:
    """Raises an error with the remedy when no VM here can be what all of them are made for."""
    check_runnable(architecture_of(images, containers))


def whole(pod: Pod, *more: dict[str, Any]) -> dict[str, Any]:
    """The specification of a pod with the containers that it has now, and more."""
    own = [
        {**{key: value for key, value in c.raw.items() if key.lower() != "name"}, "name": c.name}
        for c in pod.containers
    ]
    return {**pod.raw, "containers": [*own, *more]}


def named_container(registry: Registry, pod: Pod, spec: ContainerSpec) -> ContainerSpec:
    """A container for a pod that exists, with a name. Raises Conflict."""
    numbers = itertools.count(len(pod.containers))
    made_up = (f"{pod.id}-{number}" for number in numbers)
    name = spec.name or next(name for name in made_up if not registry.taken(name))
    _check_free(registry, name)
    return replace(spec, name=name)


def _check_free(registry: Registry, name: str) -> None:
    if (other := registry.by_name(name)) is not None:
        raise Conflict(
            f"the name {name} is in use by container {other.short_id}: choose another,"
            " or remove that one first"
        )


def with_network(raw: dict[str, Any], default: str) -> dict[str, Any]:
    """The specification as given, with the network that one gets which names none."""
    if not isinstance(raw, dict):
        return raw
    given = {key.lower() for key, value in raw.items() if value}
    if given & {"network", "networks", "interfaces"}:
        return raw
    return {**{k: v for k, v in raw.items() if k.lower() != "network"}, "network": default}
