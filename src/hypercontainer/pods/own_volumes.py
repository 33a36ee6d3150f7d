"""The volumes of hyperd's containers: made with them, counted, and removed with them."""

import contextlib
from collections.abc import Iterator

from ..volumes import Volume, VolumeStore
from .model import Container
from .mounts import image_volumes, make_volumes, volume_names
from .registry import Registry
from .sandboxes import remove_tree


@contextlib.contextmanager
def volumes_made(
    registry: Registry, store: VolumeStore, containers: list[Container]
) -> Iterator[None]:
    """The volumes of new containers; those that were made go again when the body fails.

    Raises BadRequest, Conflict, NoSpace.
    """
    made: list[Volume] = []
    try:
        for container in containers:
            mounts = list(container.spec.volumes)
            mounts += image_volumes(container.image_config, (m.path for m in mounts))
            container.anonymous, new = make_volumes(store, mounts)
            made += new
        yield
    except BaseException:
        for volume in made:
            remove_tree(store.remove_now(volume.name))
        raise
    for volume in made:
        store.settle(volume.name)
        registry.events.emit("volume", "create", volume.name, {"driver": volume.driver})


def volume_users(registry: Registry) -> dict[str, list[str]]:
    """The names of the containers that use a volume, by its name."""
    users: dict[str, list[str]] = {}
    for container in registry.containers:
        for name in volume_names(container):
            users.setdefault(name, []).append(container.name)
    return users


def own_volumes(registry: Registry, store: VolumeStore, containers: list[Container]) -> list[str]:
    """The anonymous volumes of containers that no other container uses."""
    others = {
        name
        for container in registry.containers
        if container not in containers
        for name in volume_names(container)
    }
    names = {name for container in containers for name in container.anonymous}
    return sorted(name for name in names - others if name in store)


async def remove_volume(registry: Registry, store: VolumeStore, name: str) -> None:
    """Remove a volume that nobody uses; its data is gone afterwards."""
    if name in store:
        await store.remove(name)
        registry.events.emit("volume", "destroy", name, {})
