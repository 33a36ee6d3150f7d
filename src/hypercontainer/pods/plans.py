"""What a sandbox is told of a container, and what it needs on the host's disk."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..guest.platforms import NATIVE
from ..images import ImageStore
from ..volumes import VolumeStore
from . import oci
from .architecture import architecture_of
from .factory import Factory
from .gathering import Gathered, gather
from .layout import Layout
from .logconfig import LogConfig
from .model import Container, Pod
from .mounts import nfs_hosts, oci_mounts


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration says of every pod. Sizes are in bytes, `boot_timeout` in seconds.

    `kernel` and `initrd` are for VMs of the host's architecture.
    """

    kernel: str | None = None
    initrd: str | None = None
    bios: str | None = None
    cbfs: str | None = None
    accel: str = "auto"
    template: str = "auto"
    share_driver: str = "9p"
    memory_merge: str = "off"
    boot_timeout: float | None = None
    disk_size: int = 10 << 30
    log: LogConfig = field(default_factory=LogConfig)
    factory: Factory = field(default_factory=Factory)

    def of_vms(self, architecture: str = NATIVE) -> dict[str, Any]:
        """What is the same for each VM of an architecture: arguments of VMConfig.

        One that is emulated anyway has an engine of its own accord.
        """
        own = architecture == NATIVE
        return {
            "architecture": architecture,
            "accel": self.accel if own else "tcg",
            "template": self.template,
            "kernel": self.kernel if own else None,
            "initrd": self.initrd if own else None,
            "bios": self.bios if own else None,
            "cbfs": self.cbfs if own else None,
            "share_driver": self.share_driver,
            "memory_merge": self.memory_merge,
            "boot_timeout": self.boot_timeout,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What the sandbox is told of a container."""

    container: Container
    config: dict[str, Any]
    rootfs: dict[str, Any]
    files: list[dict[str, Any]]
    stdin: bool
    filled: tuple[str, ...] = ()
    """Volumes that may get their first content from the image."""


class Planner:
    """Makes plans of containers from their specifications, images and volumes."""

    def __init__(
        self, layout: Layout, images: ImageStore, defaults: Defaults, volumes: VolumeStore
    ) -> None:
        self._layout = layout
        self._images = images
        self._volumes = volumes
        self._defaults = defaults

    def architecture(self, containers: Iterable[Container]) -> str:
        """That of the VM which containers run in. Raises BadRequest, NotFound, NotSupported."""
        return architecture_of(self._images, containers)

    async def gather(self, container: Container) -> Gathered:
        """What the container needs from elsewhere. Raises HyperError."""
        return await gather(container, nfs_hosts(self._volumes, container))

    def plan(self, pod: Pod, container: Container, gathered: Gathered) -> Plan:
        """The plan of a container. Raises NotFound, BadRequest, OSError."""
        image = self._images.get(container.image_id)
        mounted = oci_mounts(self._volumes, container, gathered.addresses)
        rootfs = {
            "kind": "overlay",
            "lower": [
                {"path": str(layer.path), "fstype": layer.fstype}
                for layer in reversed(image.layers)
            ],
            "upper": {
                "path": str(self._layout.upper(container.id)),
                "fstype": "ext4",
                "cache": container.spec.cache,
            },
        }
        stdin = container.spec.stdin
        if stdin is None:
            stdin = container.spec.tty or any(wanted for _, wanted in container.waiting)
        config = oci.container_config(pod, container, mounted.mounts)
        if container.spec.tty and container.window:
            rows, columns = container.window
            config["process"]["consoleSize"] = {"height": rows, "width": columns}
        return Plan(
            container,
            config,
            rootfs,
            oci.injected_files(pod, container, gathered.contents),
            stdin,
            tuple(mounted.filled),
        )

    def make_disk(self, container: Container) -> None:
        """Make the container's directory and its disk, once."""
        upper = self._layout.upper(container.id)
        upper.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if upper.exists():
            return
        partial = upper.with_suffix(".part")
        partial.unlink(missing_ok=True)
        self._images.make_upper(partial, self._defaults.disk_size)
        partial.rename(upper)
