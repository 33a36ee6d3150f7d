"""What a container has of the host while it is there: disks, files of the share, streams."""

from typing import Any

from ..errors import BadRequest
from ..hypervisor.driver import DiskKind
from .containers import Container
from .disks import Disks
from .share import Share
from .vm import VirtualMachine


class Holdings:
    """Gives the containers of one VM what they need of the host, and takes it back."""

    def __init__(self, vm: VirtualMachine, share: Share | None) -> None:
        self.disks = Disks(vm.monitor)
        self._vm = vm
        self._share = share

    def bind(self, container: Container, source: str, *, read_only: bool) -> str:
        """Put a file or directory of the host into the share; returns its path there.

        Raises BadRequest.
        """
        if self._share is None:
            raise BadRequest(
                f"bind mount of {source}: the virtual machine was started without a share of"
                " directories"
            )
        return self._share.bind(container.cid, source, read_only=read_only)

    async def rootfs(self, container: Container, rootfs: dict[str, Any]) -> dict[str, Any]:
        """Attach what a root file system is made of; returns what the guest is told of it.

        Raises BadRequest.
        """
        kind = rootfs.get("kind")
        if kind == "share":
            return {"kind": "share", "path": self.bind(container, rootfs["path"], read_only=False)}
        if kind == "disk":
            return {"kind": "disk", **await self.disk(container, rootfs, read_only=False)}
        if kind != "overlay":
            raise BadRequest(f"rootfs.kind: {kind!r} is none of overlay, share and disk")
        lower = [await self.disk(container, disk, read_only=True) for disk in rootfs["lower"]]
        message: dict[str, Any] = {"kind": "overlay", "lower": lower}
        if rootfs.get("upper"):
            message["upper"] = await self.disk(container, rootfs["upper"], read_only=False)
        return message

    async def disk(
        self, container: Container, disk: dict[str, Any], *, read_only: bool, shared: bool = False
    ) -> dict[str, str]:
        """Attach a disk; returns its address and file system. Raises BadRequest."""
        kind = DiskKind(disk.get("format") or "raw", disk.get("cache") or "")
        address = await self.disks.attach(
            disk["path"], read_only=read_only, kind=kind, shared=shared
        )
        container.disks.append(disk["path"])
        return {"disk": address, "fstype": disk.get("fstype") or "ext4"}

    async def release(self, container: Container) -> None:
        """Take back all that the container has."""
        for process in container.processes.values():
            process.release()
        if container.log is not None:
            await container.log.close()
            container.log = None
        if container.resolver is not None:
            container.resolver.close()
            container.resolver = None
        if self._share is not None:
            self._share.release(container.cid)
        while container.disks and not self._vm.ended.done():
            await self.disks.release(container.disks.pop())
