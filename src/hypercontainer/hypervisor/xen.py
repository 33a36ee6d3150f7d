"""A running domain of Xen, driven by xl and xenstore."""

import asyncio
import os
import socket
import stat
import time
from typing import TYPE_CHECKING, TypeVar

from ..errors import BadRequest, HyperError, NotSupported, VMError
from ..system import loopdev, taps
from ..system.patience import patience
from ..system.threads import in_network_namespace
from . import xen_devices, xen_domain
from .disk_images import open_image
from .driver import RAW, DiskKind, Features, Monitor
from .machine import Machine, Vmm
from .xen_devices import Device
from .xenstore import XenStore

if TYPE_CHECKING:
    from collections.abc import Callable

_PLUG_BOUND = 20.0
_UNPLUG_BOUND = 10.0
_BALLOON_BOUND = 10.0
_CPU_BOUND = 10.0
_POLL, _GUEST_POLL = 0.01, 0.1
_MIN_MEMORY_MIB = 48
_DIRECT = ("off", "none", "directsync")
_WRITE_THROUGH = ("writethrough", "directsync")
T = TypeVar("T")


class Xen(Monitor):
    """One domain. Its disks are numbered, its cards have the place of a tap."""

    def __init__(self, machine: Machine, vmm: Vmm, features: Features) -> None:
        self.features = features
        self._machine = machine
        self._vmm = vmm
        self._name = xen_domain.name_of(machine, vmm.pid, vmm.started)
        self._domain = 0
        self._connected = asyncio.Event()
        self._closed = False
        self._lock = asyncio.Lock()
        self._store: XenStore | None = None
        # Descriptors that a device lives by: the loop device, the tap.
        self._disks: dict[int, int] = {}
        self._cards: dict[str, tuple[Device, int]] = {}
        self._next_lun = 0
        self._next_card = 0
        # MiB: what the guest was told to have, and what it can be told.
        self._memory = self._most = machine.memory_mib
        # What Xen counts besides, as it was before the first change.
        self._overhead: int | None = None

    async def connect(self, timeout: float) -> None:
        """As `Monitor`: the domain is made and runs."""
        loop = asyncio.get_running_loop()
        try:
            said = await asyncio.wait_for(loop.sock_recv(self._vmm.monitor, 32), timeout)
        except TimeoutError as error:
            raise VMError(f"Xen did not make a domain in {timeout:.0f} s") from error
        if not said.isdigit():
            raise VMError("Xen did not make a domain")
        self._store, self._domain = XenStore(), int(said)
        self._connected.set()

    async def _do(self, work: "Callable[[XenStore], T]") -> T:
        """Do something with the store, one at a time, beside the event loop."""
        try:
            await asyncio.wait_for(self._connected.wait(), 60.0 * patience())
        except TimeoutError as error:
            raise VMError("Xen did not make a domain") from error
        async with self._lock:
            if self._closed or self._store is None:
                raise VMError("the virtual machine is gone")
            store = self._store
            return await asyncio.to_thread(lambda: work(store))

    async def plug_disk(
        self, path: str, *, read_only: bool, kind: DiskKind = RAW, lun: int | None = None
    ) -> int:
        """As `Monitor`. Raises NotSupported for what Xen's disks are not."""
        if kind.format != "raw":
            raise NotSupported(f"disk image {path}: Xen's disks are raw, not {kind.format}")
        if kind.cache in _WRITE_THROUGH:
            raise NotSupported(f"disk image {path}: Xen's disks have no cache={kind.cache}")
        lun = self._next_lun if lun is None else lun
        if lun >= xen_devices.MAX_DISKS:
            raise BadRequest(f"more than {xen_devices.MAX_DISKS} disks in a virtual machine")
        self._next_lun = max(self._next_lun, lun + 1)
        device, block = await _block_device(path, read_only, kind.cache in _DIRECT)
        self._disks[lun] = device
        number = os.stat(block).st_rdev
        host = {
            "params": block,
            "type": "phy",
            "physical-device": f"{os.major(number):x}:{os.minor(number):x}",
            "mode": "r" if read_only else "w",
            "device-type": "disk",
            "dev": "xvd",
            "removable": "0",
            "bootable": "0",
            "discard-enable": "1",
        }
        try:
            await self._do(lambda store: self._plug_disk(store, lun, host))
        except BaseException:
            os.close(self._disks.pop(lun))
            raise
        return lun

    def _plug_disk(self, store: XenStore, lun: int, host: dict[str, str]) -> None:
        device = self._disk(lun)
        guest = {"virtual-device": str(device.number), "device-type": "disk"}
        _plug(store, device, host, guest)

    def _disk(self, lun: int) -> Device:
        return Device(self._domain, "vbd", xen_devices.disk_number(lun))

    async def unplug_disk(self, lun: int) -> None:
        """As `Monitor`."""
        bound = _UNPLUG_BOUND * patience()
        await self._do(lambda store: xen_devices.unplug(store, self._disk(lun), bound))
        os.close(self._disks.pop(lun))

    async def plug_network(self, name: str, tap: int, mac: str, slot: str = "") -> None:
        """As `Monitor`: the card's interface in the host is put in the place of whoever reads the
        tap."""
        kept = os.dup(tap)
        self._next_card += 1
        number = self._next_card - 1
        try:
            device = await self._do(lambda store: self._plug_network(store, number, kept, mac))
        except BaseException:
            os.close(kept)
            raise
        self._cards[name] = (device, kept)

    def _plug_network(self, store: XenStore, number: int, tap: int, mac: str) -> Device:
        device = Device(self._domain, "vif", number)
        handle = {"handle": str(number), "mac": mac}
        # No script sets the interface up: `_join` does.
        host = {**handle, "script": "", "type": "vif", "bridge": ""}
        xen_devices.plug(store, device, host, handle)
        try:
            _join(f"vif{self._domain}.{number}", tap)
            store.write(f"{device.hosts}/hotplug-status", "connected")
            xen_devices.wait_connected(store, device, _PLUG_BOUND * patience())
        except BaseException as error:
            xen_devices.remove(store, device)
            if isinstance(error, HyperError | OSError):
                raise VMError(f"network card {mac}: {error}") from error
            raise
        return device

    async def unplug_network(self, name: str) -> None:
        """As `Monitor`."""
        device, tap = self._cards.pop(name)
        bound = _UNPLUG_BOUND * patience()
        try:
            await self._do(lambda store: xen_devices.unplug(store, device, bound))
        finally:
            os.close(tap)

    async def pause(self) -> None:
        """As `Monitor`."""
        await self._do(lambda _: xen_domain.xl("pause", str(self._domain)))

    async def resume(self) -> None:
        """As `Monitor`."""
        await self._do(lambda _: xen_domain.xl("unpause", str(self._domain)))

    async def set_cpus(self, count: int) -> None:
        """As `Monitor`: the guest's kernel lets go of those that are too many by itself."""
        if not 1 <= count <= self._machine.cpus:
            raise BadRequest(f"cpus: {count} is not between 1 and {self._machine.cpus}")
        await self._do(lambda _: xen_domain.xl("vcpu-set", str(self._domain), str(count)))
        deadline = time.monotonic() + _CPU_BOUND * patience()
        # One that comes back before it has gone would go after it came.
        while (has := await self._do(lambda _: xen_domain.cpus(self._domain))) > count:
            if time.monotonic() > deadline:
                await self._do(lambda _: xen_domain.xl("vcpu-set", str(self._domain), str(has)))
                raise VMError(f"cpus: the guest kept {has}, and was to keep {count}")
            await asyncio.sleep(_GUEST_POLL)

    async def set_memory(self, mib: int) -> None:
        """As `Monitor`: the guest's balloon follows."""
        if not _MIN_MEMORY_MIB <= mib <= self._most:
            raise BadRequest(f"memory: {mib} MiB is not between {_MIN_MEMORY_MIB} and {self._most}")
        before = self._memory
        await self._do(lambda store: self._tell_memory(store, mib))
        deadline = time.monotonic() + _BALLOON_BOUND * patience()
        # Xen counts whole ones, rounded down.
        while abs((has := self._machine.memory_mib + await self.plugged_memory()) - mib) > 1:
            if time.monotonic() > deadline:
                await self._do(lambda store: self._tell_memory(store, before))
                raise VMError(f"memory: the guest came to {has} MiB, not to {mib}: it needs more")
            await asyncio.sleep(_GUEST_POLL)

    async def offer_memory(self, mib: int) -> None:
        """As `Monitor`: the guest's balloon takes what is above its memory as new one."""
        await self._do(lambda store: self._tell_memory(store, self._machine.memory_mib + mib))

    async def plugged_memory(self) -> int:
        """As `Monitor`."""
        has = await self._do(lambda _: xen_domain.memory_mib(self._domain))
        return has - (self._overhead or 0) - self._machine.memory_mib

    async def host_memory(self) -> int:
        """As `Monitor`."""
        return await self._do(lambda _: xen_domain.host_mib())

    def _tell_memory(self, store: XenStore, mib: int) -> None:
        if self._overhead is None:
            self._overhead = xen_domain.memory_mib(self._domain) - self._memory
        if mib > self._memory and (free := xen_domain.free_mib()) < mib - self._memory:
            raise VMError(f"memory: {mib - self._memory} MiB more: Xen has {free} MiB free")
        if mib > self._most:
            # xl takes no more than this for possible.
            store.write(f"/local/domain/{self._domain}/memory/static-max", str(mib << 10))
            self._most = mib
        xen_domain.xl("mem-set", str(self._domain), f"{mib}m")
        self._memory = mib

    async def close(self) -> None:
        """As `Monitor`. A domain whose keeper was killed is ended too."""
        self._closed = True
        self._connected.set()
        async with self._lock:
            if self._store is not None:
                store, self._store = self._store, None
                await asyncio.to_thread(self._end, store)
        self._vmm.monitor.close()
        for fd in (*self._disks.values(), *(tap for _, tap in self._cards.values())):
            os.close(fd)
        self._disks.clear()
        self._cards.clear()

    def _end(self, store: XenStore) -> None:
        try:
            if store.read(f"/local/domain/{self._domain}/name") == self._name:
                xen_domain.destroy(store, self._domain)
        except VMError:
            pass
        finally:
            store.close()


def _plug(store: XenStore, device: Device, host: dict[str, str], guest: dict[str, str]) -> None:
    xen_devices.plug(store, device, host, guest)
    try:
        xen_devices.wait_connected(store, device, _PLUG_BOUND * patience())
    except BaseException:
        xen_devices.remove(store, device)
        raise


async def _block_device(path: str, read_only: bool, direct: bool) -> tuple[int, str]:
    """A descriptor that keeps the image, and a block device of it. Raises BadRequest, Conflict."""
    fd = await open_image(path, read_only=read_only)
    try:
        if stat.S_ISBLK(os.fstat(fd).st_mode):
            return os.dup(fd), os.path.realpath(path)
        return loopdev.attach(fd, read_only=read_only, direct=direct)
    finally:
        os.close(fd)


def _join(interface: str, tap: int) -> None:
    """Put the host's end of a card in the place of a tap's reader. Raises HyperError, OSError."""
    # The kernel makes it in the host's first namespace, wherever this process is.
    first = os.open("/proc/1/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        in_network_namespace(first, lambda: _await(interface))
        taps.take_place(interface, first, tap)
    finally:
        os.close(first)


def _await(interface: str) -> None:
    deadline = time.monotonic() + _PLUG_BOUND * patience()
    while True:
        try:
            socket.if_nametoindex(interface)
        except OSError:
            if time.monotonic() > deadline:
                raise HyperError(f"{interface} did not appear: modprobe xen-netback") from None
            time.sleep(_POLL)
        else:
            return
