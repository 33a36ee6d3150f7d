"""A running VM of VirtualBox, driven by VBoxManage."""

import asyncio
import os
import shutil
from typing import NamedTuple

from ..errors import Conflict, NotSupported, VMError
from . import vbox_commands as commands
from . import vbox_keeper as keeper
from .disk_images import open_image
from .driver import RAW, DiskKind, Features, Monitor
from .machine import Machine

_POLL = 0.2


class _Disk(NamedTuple):
    """A file, opened so that no other VM has it, and its copy."""

    path: str
    fd: int
    image: str
    read_only: bool


class VirtualBox(Monitor):
    """One VM, by its name.

    VirtualBox takes no raw images: each disk is a copy of its file as VDI, and one that is written
    to is copied back when it is unplugged. The copies are in the sandbox's directory, so they go
    with it when the sandbox was killed.
    """

    def __init__(self, machine: Machine, features: Features) -> None:
        self.features = features
        self._name = machine.name
        self._copies = os.path.join(machine.jail, "disks")
        os.makedirs(self._copies, mode=0o700, exist_ok=True)
        self._disks: dict[int, _Disk] = {}
        self._lock = asyncio.Lock()

    async def connect(self, timeout: float) -> None:
        """Wait until it runs. Raises VMError."""
        try:
            async with asyncio.timeout(timeout):
                # VBoxManage waits for no state.
                while await asyncio.to_thread(keeper.state, self._name) != "running":  # noqa: ASYNC110
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise VMError(f"VirtualBox did not start the VM in {timeout:.0f} s") from None

    async def _run(self, arguments: list[str]) -> str:
        return await asyncio.to_thread(commands.run, arguments)

    async def plug_disk(
        self, path: str, *, read_only: bool, kind: DiskKind = RAW, lun: int | None = None
    ) -> int:
        """As `Monitor`; a LUN is a port of the controller."""
        if kind.format != "raw":
            raise NotSupported(f"disk image {path}: VirtualBox gets raw images only")
        async with self._lock:
            free = (port for port in range(commands.MAX_DISKS) if port not in self._disks)
            port = next(free, commands.MAX_DISKS) if lun is None else lun
            if port >= commands.MAX_DISKS or port in self._disks:
                raise VMError(f"a VM of VirtualBox has {commands.MAX_DISKS} disks at most")
            image = os.path.join(self._copies, f"{port}.vdi")
            disk = _Disk(path, await open_image(path, read_only=read_only), image, read_only)
            try:
                await self._attach(disk, port)
            except BaseException:
                os.close(disk.fd)
                raise
            self._disks[port] = disk
            return port

    async def _attach(self, disk: _Disk, port: int) -> None:
        await self._run(commands.to_vdi(disk.path, disk.image))
        attach = commands.attach_disk(self._name, port, disk.image, read_only=disk.read_only)
        try:
            await self._run(attach)
        except VMError:
            await self._run(commands.forget_image(disk.image, delete=True))
            raise

    async def unplug_disk(self, lun: int) -> None:
        """As `Monitor`; what was written is in the file afterwards."""
        async with self._lock:
            await self._run(commands.detach_disk(self._name, lun))
            await self._take_back(self._disks.pop(lun))

    async def _take_back(self, disk: _Disk) -> None:
        try:
            if not disk.read_only:
                raw = f"{disk.image}.raw"
                await self._run(commands.to_raw(disk.image, raw))
                await self._run(commands.forget_image(raw, delete=False))
                await asyncio.to_thread(shutil.copyfile, raw, disk.path)
                os.unlink(raw)
            await self._run(commands.forget_image(disk.image, delete=True))
        finally:
            os.close(disk.fd)

    async def plug_network(self, name: str, tap: int, mac: str, slot: str = "") -> None:
        """Refused: its cards are of NAT."""
        self._refuse("have a card of a bridge: use the user-mode network, or none")

    async def unplug_network(self, name: str) -> None:
        """There is none."""

    async def forward_port(
        self, protocol: str, host_ip: str, host_port: int, guest_port: int
    ) -> None:
        """As `Monitor`."""
        try:
            await self._run(commands.forward(self._name, protocol, host_ip, host_port, guest_port))
        except VMError as error:
            raise Conflict(
                f"publish {host_ip or '0.0.0.0'}:{host_port}/{protocol}: {error.message}"
            ) from error

    async def unforward_port(self, protocol: str, host_ip: str, host_port: int) -> None:
        """The reverse of `forward_port`."""
        await self._run(commands.unforward(self._name, protocol, host_ip, host_port))

    async def pause(self) -> None:
        """As `Monitor`."""
        await self._run(commands.control(self._name, "pause"))

    async def resume(self) -> None:
        """As `Monitor`."""
        await self._run(commands.control(self._name, "resume"))

    async def close(self) -> None:
        """Take back what the VM, which is gone, has written; the copies go."""
        async with self._lock:
            try:
                for port in list(self._disks):
                    await self._take_back(self._disks.pop(port))
            finally:
                shutil.rmtree(self._copies, ignore_errors=True)
