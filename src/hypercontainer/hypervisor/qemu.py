"""A running QEMU, driven by its monitor (QMP, by the qemu.qmp library)."""

import asyncio
import os
import re
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from qemu.qmp import EventListener, QMPClient, QMPError
from qemu.qmp.qmp_client import ExecInterruptedError

from ..errors import Conflict, VMError
from ..guest.platforms import NATIVE
from . import virt
from .disk_images import open_image
from .driver import RAW, DiskKind, Features, Monitor
from .machine import Machine, Vmm
from .qemu_start import SCSI_BUS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_VHOST_NET = "/dev/vhost-net"
_COMMAND_TIMEOUT = 30.0
_POLL = 0.001
_NO_CPUS = (
    "get more CPUs while it runs, as it is emulated for another architecture or its kernel was not"
    " told of them: stop it, and start it with what it needs"
)
_ADDRESS = re.compile(r" is 0x([0-9a-f]+)")


_DIRECT = ("off", "none", "directsync")
_WRITE_THROUGH = ("writethrough", "directsync")


def _block_node(
    node: str, file: str, read_only: bool, kind: DiskKind, *, device: bool
) -> dict[str, Any]:
    """The arguments of blockdev-add. A backing file that an image may name is never opened.

    `device` says that the file is a block device of the host.
    """
    driver = "host_device" if device else "file"
    cache = {"no-flush": kind.cache == "unsafe", "direct": kind.cache in _DIRECT}
    return {
        "node-name": node,
        "driver": kind.format,
        "read-only": read_only,
        "discard": "unmap",
        "cache": cache,
        "file": {"driver": driver, "filename": file, "locking": "off", "cache": cache},
        **({"backing": None} if kind.format == "qcow2" else {}),
    }


def _is_device(path: str) -> bool:
    return stat.S_ISBLK(os.stat(path).st_mode)


async def _deleted(listener: EventListener, device: str) -> None:
    async for event in listener:
        data = event["data"]
        if isinstance(data, dict) and data.get("device") == device:
            return


class Qemu(Monitor):
    """One QEMU process and its monitor.

    Disks are named by the LUN on the one SCSI controller, which takes 16383 of
    them, and are handed over as file descriptors: QEMU opens no file itself.
    """

    def __init__(self, vmm: Vmm, features: Features, machine: Machine) -> None:
        self.vmm = vmm
        self.features = features
        self._machine = machine
        self._places = virt.Places(machine.architecture)
        self._qmp = QMPClient("hyper")
        self._connected = asyncio.Event()
        self._closed = False
        self._next_lun = 0
        self._lock = asyncio.Lock()

    async def connect(self, timeout: float) -> None:
        """Greet the monitor. Raises VMError when QEMU does not answer in `timeout` seconds."""
        try:
            await asyncio.wait_for(self._qmp.connect(self.vmm.monitor), timeout)
        except (TimeoutError, QMPError, OSError) as error:
            raise VMError(f"QEMU's monitor did not answer: {error or 'time-out'}") from error
        self._connected.set()

    async def _until_connected(self) -> None:
        """Raises VMError when it comes to nothing."""
        try:
            await asyncio.wait_for(self._connected.wait(), _COMMAND_TIMEOUT)
        except TimeoutError as error:
            raise VMError("QEMU's monitor did not answer") from error
        if self._closed:
            raise VMError("the virtual machine is gone")

    async def _execute(self, command: str, **arguments: Any) -> Any:
        await self._until_connected()
        try:
            return await asyncio.wait_for(
                self._qmp.execute(command, arguments or None), _COMMAND_TIMEOUT
            )
        except ExecInterruptedError as error:
            raise VMError("the virtual machine is gone") from error
        except QMPError as error:
            raise VMError(f"QEMU refused {command}: {error}") from error
        except TimeoutError as error:
            raise VMError(f"QEMU did not answer {command} in {_COMMAND_TIMEOUT:.0f} s") from error

    async def plug_disk(
        self, path: str, *, read_only: bool, kind: DiskKind = RAW, lun: int | None = None
    ) -> int:
        """Attach an image, at a LUN (on target 0) of its own or a given one; returns that.

        Raises BadRequest, Conflict (in use by another VM) or VMError.
        """
        async with self._lock, self._file(path, read_only) as name:
            lun = self._next_lun if lun is None else lun
            self._next_lun = max(self._next_lun, lun + 1)
            node = f"disk{lun}"
            block = _block_node(node, name, read_only, kind, device=_is_device(path))
            await self._execute("blockdev-add", **block)
            try:
                await self._execute(
                    "device_add",
                    driver="scsi-hd",
                    id=f"dev-{node}",
                    bus=SCSI_BUS,
                    drive=node,
                    **{"scsi-id": 0, "lun": lun, "share-rw": read_only},
                    **({"write-cache": "off"} if kind.cache in _WRITE_THROUGH else {}),
                )
            except VMError:
                await self._execute("blockdev-del", **{"node-name": node})
                raise
            return lun

    @asynccontextmanager
    async def _file(self, path: str, read_only: bool) -> "AsyncIterator[str]":
        """Hand a file over as an fd set that ends with the block node that opened it."""
        fd = await open_image(path, read_only=read_only)
        try:
            await self._until_connected()
            self._qmp.send_fd_scm(fd)
            added = await self._execute("add-fd")
        finally:
            os.close(fd)
        fdset = int(added["fdset-id"])
        try:
            yield f"/dev/fdset/{fdset}"
        finally:
            await self._execute("remove-fd", **{"fdset-id": fdset})

    async def unplug_disk(self, lun: int) -> None:
        """Detach a disk that the guest has let go. Raises VMError."""
        await self._unplug(f"dev-disk{lun}")
        await self._execute("blockdev-del", **{"node-name": f"disk{lun}"})

    async def _unplug(self, device: str) -> None:
        with self._qmp.listener("DEVICE_DELETED") as listener:
            await self._execute("device_del", id=device)
            try:
                await asyncio.wait_for(_deleted(listener, device), _COMMAND_TIMEOUT)
            except TimeoutError as error:
                raise VMError(f"QEMU did not let {device} go") from error

    async def plug_network(self, name: str, tap: int, mac: str, slot: str = "") -> None:
        """Plug a card on the tap of a descriptor, of which QEMU gets a copy. Raises VMError.

        `slot` is its place on the PCI bus, "" for a free one.
        """
        device = f"dev-{name}"
        async with self._lock:
            place = self._places.take(device, slot)
            await self._getfd(name, tap)
            vhost = await self._give_vhost(f"{name}-vhost")
            await self._execute("netdev_add", type="tap", id=name, fd=name, **vhost)
            try:
                await self._execute(
                    "device_add",
                    driver="virtio-net-pci",
                    id=device,
                    netdev=name,
                    mac=mac,
                    romfile="",
                    **place,
                )
            except VMError:
                self._places.free(device)
                await self._execute("netdev_del", id=name)
                raise

    async def _give_vhost(self, name: str) -> dict[str, Any]:
        """The netdev's arguments for having the host's kernel move packets, where that can be.

        It needs KVM, which takes the guest's kicks and gives it interrupts without QEMU. QEMU gets
        the device opened, since it can open none in its jail.
        """
        if self._machine.accel != "kvm":
            return {}
        try:
            fd = os.open(_VHOST_NET, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return {}
        try:
            await self._getfd(name, fd)
        finally:
            os.close(fd)
        return {"vhost": True, "vhostfd": name}

    async def unplug_network(self, name: str) -> None:
        """Forget a card that the guest has let go, which ejects it, and its tap. Raises VMError."""
        device = f"dev-{name}"
        try:
            there = await self._execute("qom-list", path="/machine/peripheral")
            if any(item["name"] == device for item in there):
                await self._unplug(device)
            self._places.free(device)
        finally:
            await self._execute("netdev_del", id=name)

    async def forward_port(
        self, protocol: str, host_ip: str, host_port: int, guest_port: int
    ) -> None:
        """Pass a port of the host on to the guest, with the user-mode network.

        Raises Conflict when another program has it, or QEMU may not have it.
        """
        rule = f"{protocol}:{host_ip}:{host_port}-:{guest_port}"
        line = f"hostfwd_add net0 {rule}"
        said = await self._execute("human-monitor-command", **{"command-line": line})
        if said.strip():
            why = "port is already allocated" if host_port >= 1024 else "or QEMU may not have it"
            raise Conflict(f"publish {host_ip or '0.0.0.0'}:{host_port}/{protocol}: {why}")

    async def unforward_port(self, protocol: str, host_ip: str, host_port: int) -> None:
        """The reverse of `forward_port`."""
        line = f"hostfwd_remove net0 {protocol}:{host_ip}:{host_port}"
        await self._execute("human-monitor-command", **{"command-line": line})

    async def plug_share(self, server: int, tag: str) -> None:
        """Plug the file system of a vhost-user server, the other end of a socket. Raises VMError.

        QEMU gets a copy of the descriptor.
        """
        await self._getfd("share", server)
        backend = {"addr": {"type": "fd", "data": {"str": "share"}}, "server": False}
        await self._execute("chardev-add", id="share", backend={"type": "socket", "data": backend})
        place = self._places.take("dev-share")
        await self._execute(
            "device_add",
            driver="vhost-user-fs-pci",
            id="dev-share",
            chardev="share",
            tag=tag,
            **place,
        )

    async def offer_memory(self, mib: int) -> None:
        """Plug the device for it, or change how much that offers. Raises NotSupported, VMError."""
        from . import qemu_memory

        if self._machine.architecture != NATIVE:
            self._refuse("get more memory while it runs, as it is emulated")
        async with self._lock:
            await qemu_memory.offer(self._execute, self._machine, mib)

    async def plugged_memory(self) -> int:
        """The MiB that the guest has taken of those that it was offered. Raises VMError."""
        from . import qemu_memory

        return await qemu_memory.plugged(self._execute)

    async def plug_cpus(self, count: int) -> None:
        """Plug what is missing of `count` CPUs. Raises NotSupported, VMError."""
        from . import qemu_cpus

        if not self._machine.most_cpus:
            self._refuse(_NO_CPUS)
        async with self._lock:
            await qemu_cpus.plug(self._execute, count)

    async def plugged_cpus(self) -> int:
        """How many CPUs the machine has. Raises VMError."""
        from . import qemu_cpus

        if not self._machine.most_cpus:
            return self._machine.cpus
        return await qemu_cpus.plugged(self._execute)

    async def pause(self) -> None:
        """Stop the virtual CPUs."""
        await self._execute("stop")

    async def resume(self) -> None:
        """Let the virtual CPUs go on."""
        await self._execute("cont")

    async def save_state(self, fd: int, timeout: float) -> None:
        """Stop the VM and write its state, without RAM that is shared, in `timeout` seconds.

        Raises VMError.
        """
        await self.pause()
        await self._ignore_shared_memory()
        await self._getfd("state", fd)
        await self._execute("migrate", uri="fd:state")
        deadline = asyncio.get_running_loop().time() + timeout
        while (status := (await self._execute("query-migrate")).get("status")) != "completed":
            if status in ("failed", "cancelled") or asyncio.get_running_loop().time() > deadline:
                raise VMError(f"QEMU did not save the virtual machine: {status}")
            await asyncio.sleep(_POLL)

    async def load_state(self, fd: int, timeout: float) -> None:
        """Continue a VM that was started as a clone, from a saved state. Raises VMError."""
        await self._ignore_shared_memory()
        await self._getfd("state", fd)
        await self._load(timeout, "the template")
        await self.resume()

    async def _load(self, timeout: float, what: str) -> None:
        await self._execute("migrate-incoming", uri="fd:state")
        deadline = asyncio.get_running_loop().time() + timeout
        while (status := (await self._execute("query-status"))["status"]) == "inmigrate":
            if asyncio.get_running_loop().time() > deadline:
                raise VMError(f"QEMU did not load {what} in time")
            await asyncio.sleep(_POLL)
        if status != "paused":
            raise VMError(f"QEMU did not load {what}: {status}")

    async def version(self) -> str:
        """QEMU's version, with the distribution's own."""
        found = await self._execute("query-version")
        numbers = ".".join(str(found["qemu"][key]) for key in ("major", "minor", "micro"))
        return f"{numbers} {found['package']}".strip()

    async def card_slots(self) -> dict[str, str]:
        """The places on the PCI bus of the cards that were plugged, by their names."""
        slots = virt.places(await self._execute("query-pci"))
        return {
            name.removeprefix("dev-"): slot
            for name, slot in slots.items()
            if name.startswith("dev-")
        }

    async def ram_address(self) -> int:
        """Where the guest's RAM begins in QEMU's memory, in which it is contiguous."""
        base = virt.RAM_BASE if self._machine.architecture != NATIVE else 0
        command = {"command-line": f"gpa2hva {base:#x}"}
        said = str(await self._execute("human-monitor-command", **command))
        match = _ADDRESS.search(said)
        if match is None:
            raise VMError(f"QEMU does not say where the guest's memory is: {said.strip()}")
        return int(match[1], 16)

    async def settle(self) -> None:
        """Let QEMU finish what is under way in its main loop."""
        await self._execute("query-status")
        await self._execute("query-status")

    async def save_devices(self, fd: int) -> None:
        """Write the state of a stopped VM's devices to an empty file. Raises VMError.

        It has no RAM, and is loaded by a `devices_only` machine. The command is named after who
        had it first; it is the only one that leaves out RAM which is not shared.
        """
        await self._until_connected()
        self._qmp.send_fd_scm(fd)
        fdset = int((await self._execute("add-fd"))["fdset-id"])
        try:
            name = f"/dev/fdset/{fdset}"
            await self._execute("xen-save-devices-state", filename=name, live=False)
        finally:
            await self._execute("remove-fd", **{"fdset-id": fdset})

    async def load_devices(self, fd: int, timeout: float) -> None:
        """Load what `save_devices` wrote into a machine with the same disks and cards.

        The VM stays stopped. QEMU announces its cards by the addresses that they had: they must
        lead nowhere. Raises VMError.
        """
        await self._getfd("state", fd)
        await self._load(timeout, "the snapshot")

    async def _ignore_shared_memory(self) -> None:
        capability = {"capability": "x-ignore-shared", "state": True}
        await self._execute("migrate-set-capabilities", capabilities=[capability])

    async def _getfd(self, name: str, fd: int) -> None:
        """Give QEMU a copy of a descriptor, under a name."""
        await self._until_connected()
        self._qmp.send_fd_scm(fd)
        await self._execute("getfd", fdname=name)

    async def close(self) -> None:
        """Let the monitor go, whether QEMU lives or not; wakes those who wait for it."""
        self._closed = True
        self._connected.set()
        try:
            await asyncio.wait_for(self._qmp.disconnect(), 2.0)
        except (QMPError, OSError, EOFError, TimeoutError):
            pass
