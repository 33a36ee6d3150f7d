"""What of a pod is saved, and whether it can be: its containers, disks and volumes."""

import asyncio
from pathlib import Path
from typing import Any

from ..errors import Conflict, NotFound, NotRunning, NotSupported
from ..images import ImageStore
from ..sandbox import read_state
from ..system import processes
from ..volumes import VolumeStore
from ..volumes.model import DISK
from .layout import Layout
from .model import Container, Pod, Status, now
from .mounts import all_mounts, as_given
from .snapshots import need_disk
from .spec_volumes import VolumeMount

_REMEDY = "use a volume of the driver disk there (`hyper volume create -d disk NAME`)"


class Saver:
    """Saves running pods. Methods are called with the pod's lock held."""

    def __init__(self, layout: Layout, images: ImageStore, volumes: VolumeStore) -> None:
        self._layout = layout
        self._images = images
        self._volumes = volumes

    def check(self, pod: Pod, what: str) -> None:
        """Raises NotRunning, NotSupported, Conflict, NotFound for a pod that can't be saved."""
        if pod.client is None or not pod.live:
            raise NotRunning(f"{what}: pod {pod.id} is not running")
        for container in pod.containers:
            status = container.state.status
            if status == Status.PAUSED:
                raise NotRunning(f"{what}: container {container.name} is paused: unpause it first")
            if status != Status.RUNNING:
                raise Conflict(
                    f"{what}: container {container.name} of the pod is {status}: only a pod all of"
                    " whose containers run can be saved"
                )
            for mount in all_mounts(container):
                self._check_mount(container, mount, what)
        if pod.spec.share:
            raise NotSupported(
                f"{what}: pod {pod.id} has share: true, and directories of the host can't be saved"
                " with it"
            )

    def _check_mount(self, container: Container, mount: VolumeMount, what: str) -> None:
        volume = mount.volume
        where = f"{what}: the volume {volume.name or volume.source} at {mount.path}"
        if volume.kind == "volume":
            if volume.name not in self._volumes:
                raise NotFound(f"{where} of container {container.name} is gone")
            kept = self._volumes.get(volume.name)
            if kept.nfs is not None:
                raise NotSupported(f"{where} is mounted from a server, which knows one client")
            if kept.driver != DISK:
                raise NotSupported(
                    f"{where} is a directory of the host, whose 9p mount can't be saved: {_REMEDY}"
                )
            if not kept.image.exists():
                raise NotFound(f"{where} of container {container.name} is gone: {kept.image}")
        elif volume.kind == "bind":
            raise NotSupported(
                f"{where} is a directory of the host, whose 9p mount can't be saved: {_REMEDY},"
                " or copy the files in (`hyper cp`)"
            )
        elif volume.kind == "nfs":
            raise NotSupported(f"{where} is mounted from a server, which knows one client")
        elif volume.kind == "image" and not mount.read_only:
            raise NotSupported(
                f"{where} is a disk image of yours, which two virtual machines can't write to:"
                f" mount it read-only, or {_REMEDY}"
            )

    async def save(
        self, pod: Pod, directory: Path, memory: int, what: str, *, disks: bool, stay: bool = False
    ) -> dict[str, Any]:
        """Save a pod that `check` lets pass; returns what a manifest says of it.

        Raises HyperError; the pod goes on then.
        """
        assert pod.client is not None
        state = read_state(pod.client.state_dir) or {}
        size = (processes.usage(int(state.get("vmm_pid") or 0)) or (0, 0))[1]
        if disks:
            size += sum(512 * path.stat().st_blocks for path in self._disks(pod) if path.exists())
        need_disk(directory, size, what)
        about = await asyncio.to_thread(self._describe, pod)
        saved = await pod.client.snapshot(str(directory), memory, disks=disks, stay=stay)
        return {**about, "memory": saved["memory"], "paused_ms": saved["paused_ms"]}

    def _disks(self, pod: Pod) -> list[Path]:
        found = [self._layout.upper(container.id) for container in pod.containers]
        for container in pod.containers:
            found += map(Path, self._volume_disks(container).values())
        return found

    def _volume_disks(self, container: Container) -> dict[str, str]:
        """The images of a container's volumes, by where they are mounted."""
        return {
            mount.path: str(self._volumes.get(mount.volume.name).image)
            for mount in all_mounts(container)
            if mount.volume.kind == "volume"
        }

    def _describe(self, pod: Pod) -> dict[str, Any]:
        return {
            "created": now(),
            "pod": pod.id,
            "network": pod.spec.network,
            "networks": [wish.network for wish in pod.spec.net.wishes],
            "vcpu": pod.spec.vcpu,
            "memory_mib": pod.spec.memory,
            "raw": pod.raw,
            "containers": [self._described(container) for container in pod.containers],
        }

    def _described(self, container: Container) -> dict[str, Any]:
        image = self._images.get(container.image_id)
        return {
            "id": container.id,
            "name": container.name,
            "image": container.image,
            "image_id": container.image_id,
            "raw": container.raw,
            "upper": str(self._layout.upper(container.id)),
            "layers": [str(layer.path) for layer in image.layers],
            "volumes": [_copied(mount) for mount in all_mounts(container)],
            "volume_disks": self._volume_disks(container),
        }


def _copied(mount: VolumeMount) -> dict[str, Any]:
    """The volume of a copy, as a specification has it: of a disk its own."""
    given = as_given(mount, read_only=mount.read_only)
    if mount.volume.kind == "volume":
        given["detail"] = {"create": {"driver": DISK}}
    return given
