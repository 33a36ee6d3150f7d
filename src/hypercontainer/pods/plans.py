"""What a sandbox is told of a container, and what it needs on the host's disk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..images import ImageStore
from . import oci
from .layout import Layout
from .logconfig import LogConfig
from .model import Container, Pod


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration says of every pod. Sizes are in bytes, `boot_timeout` in seconds."""

    kernel: str | None = None
    initrd: str | None = None
    accel: str = "auto"
    template: str = "auto"
    boot_timeout: float | None = None
    disk_size: int = 10 << 30
    log: LogConfig = field(default_factory=LogConfig)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the sandbox is told of a container."""

    container: Container
    config: dict[str, Any]
    rootfs: dict[str, Any]
    files: list[dict[str, Any]]
    stdin: bool


class Planner:
    """Makes plans of containers from their specifications, images and volumes."""

    def __init__(self, layout: Layout, images: ImageStore, defaults: Defaults) -> None:
        self._layout = layout
        self._images = images
        self._defaults = defaults

    def plan(self, pod: Pod, container: Container) -> Plan:
        """The plan of a container; its volumes are made. Raises NotFound, BadRequest, OSError."""
        image = self._images.get(container.image_id)
        binds = {
            mount.path: self._volume(container, mount.volume.name, mount.volume.source, index)
            for index, mount in enumerate(container.spec.volumes)
        }
        rootfs = {
            "kind": "overlay",
            "lower": [
                {"path": str(layer.path), "fstype": layer.fstype}
                for layer in reversed(image.layers)
            ],
            "upper": {"path": str(self._layout.upper(container.id)), "fstype": "ext4"},
        }
        stdin = container.spec.stdin
        if stdin is None:
            stdin = container.spec.tty or any(wanted for _, wanted in container.waiting)
        config = oci.container_config(pod, container, binds)
        if container.spec.tty and container.window:
            rows, columns = container.window
            config["process"]["consoleSize"] = {"height": rows, "width": columns}
        return Plan(
            container,
            config,
            rootfs,
            oci.injected_files(pod, container),
            stdin,
        )

    def _volume(self, container: Container, name: str, source: str, index: int) -> Path:
        """The host's path of a volume, made if it is missing."""
        if not source:
            path = self._layout.volume(name or _anonymous_name(container, index))
            path.mkdir(parents=True, exist_ok=True)
            return path
        path = Path(source)
        if not path.exists():
            path.mkdir(parents=True)
        return path

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


def _anonymous_name(container: Container, index: int) -> str:
    """The name of the anonymous volume of a container's `index`-th mount."""
    return container.anonymous[
        sum(1 for m in container.spec.volumes[:index] if not m.volume.name and not m.volume.source)
    ]
