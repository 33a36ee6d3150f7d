"""Making pods and containers of specifications: names, ids, images."""

from dataclasses import replace
from typing import Any

from ..errors import Conflict
from ..images import ImageStore
from . import oci
from .model import Container, Pod
from .names import container_id, random_id, random_name
from .registry import Registry
from .spec import PodSpec
from .spec_container import ContainerSpec


def named(registry: Registry, spec: PodSpec) -> PodSpec:
    """With an id for the pod and a name for each container. Raises Conflict."""
    pod_id = spec.id or (spec.containers[0].name if len(spec.containers) == 1 else "")
    if not pod_id:
        pod_id = random_name(registry.taken) if len(spec.containers) == 1 else random_id("pod")
    if pod_id in registry.pods:
        raise Conflict(f"the name {pod_id} is in use: choose another, or remove that one first")
    containers = []
    for index, container in enumerate(spec.containers):
        default = pod_id if len(spec.containers) == 1 else f"{pod_id}-{index}"
        name = container.name or default
        if (other := registry.by_name(name)) is not None:
            raise Conflict(
                f"the name {name} is in use by container"
                f" {other.short_id}: choose another, or remove that one first"
            )
        containers.append(replace(container, name=name))
    return replace(spec, id=pod_id, containers=tuple(containers))


def container_of(images: ImageStore, pod: Pod, spec: ContainerSpec, created_at: str) -> Container:
    """A new container. Raises NotFound (its image), BadRequest (nothing to run)."""
    image = images.get(spec.image)
    container = Container(
        id=container_id(),
        pod_id=pod.id,
        name=spec.name,
        spec=spec,
        image=spec.image,
        image_id=image.id,
        image_config=dict(image.config.get("config") or {}),
        created_at=created_at,
    )
    oci.command_of(spec, container.image_config)
    return container


def with_names(raw: dict[str, Any], spec: PodSpec) -> dict[str, Any]:
    """The specification as given, with the names that were chosen."""
    pod = {key: value for key, value in raw.items() if key.lower() not in ("id", "containers")}
    given = next(value for key, value in raw.items() if key.lower() == "containers")
    pod["id"] = spec.id
    pod["containers"] = [
        {**{k: v for k, v in item.items() if k.lower() != "name"}, "name": container.name}
        for item, container in zip(given, spec.containers, strict=True)
    ]
    return pod
