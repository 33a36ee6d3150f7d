"""What the core wants of a hypervisor: the interface of drivers, and which one runs an engine.

An engine is what runs a guest's code (`kvm`, `tcg`, `xen`, `xenpv`, `vbox`, `uml`). Each is run by
a driver, a module with the functions of `Driver`, imported when one of its engines is wanted.
docs/hypervisors.md says how to write one.
"""

from typing import NamedTuple, NoReturn, Protocol

from ..errors import BadRequest, NotSupported
from ..guest.kernel import GuestImage
from . import memory_sizes
from .engines import CHOICES, QEMU, XEN
from .machine import Machine, Vmm

SHARE_TAG = "hyper"


class DiskKind(NamedTuple):
    """`format` is raw or qcow2, `cache` one of QEMU's modes of caching ("" is writeback)."""

    format: str = "raw"
    cache: str = ""


RAW = DiskKind()


class Features(NamedTuple):
    """What an engine can do; the core does the rest another way, or refuses it.

    `name` is the hypervisor's for messages. `boot_seconds` and `request_seconds` are what an idle
    host needs at the most until the guest is up, and for an answer of it. `shares` maps the share
    drivers to mount options of the guest. Without `templates` a VM always boots; without
    `snapshots` pods can't be saved; without `user_network` there is no network without root's
    doing. `kernel` is the flavour of the kernel that the guest needs, "" for the usual hyperkernel;
    `cpus` is how many it can have, 0 for no bound.
    """

    name: str
    boot_seconds: float
    request_seconds: float
    shares: dict[str, str]
    templates: bool = False
    snapshots: bool = False
    user_network: bool = False
    kernel: str = ""
    cpus: int = 0


class Monitor(Protocol):
    """A running VM, as the core drives it. Every method raises VMError, or what it says.

    Those with a body are not for every hypervisor: a driver that says nothing of them refuses.
    """

    features: Features

    async def connect(self, timeout: float) -> None:
        """Reach the VMM, in `timeout` seconds. The guest may not run before."""
        ...

    async def plug_disk(
        self, path: str, *, read_only: bool, kind: DiskKind = RAW, lun: int | None = None
    ) -> int:
        """Attach an image, as the guest's disk `0:LUN`: a free number or `lun`; returns that.

        Raises BadRequest when it can't be opened, Conflict when another VM writes to it.
        """
        ...

    async def unplug_disk(self, lun: int) -> None:
        """Detach a disk that the guest has let go."""
        ...

    async def plug_network(self, name: str, tap: int, mac: str, slot: str = "") -> None:
        """Plug a card that gets what a tap (a descriptor, of which a copy is kept) gets.

        `slot` is its place on the PCI bus, "" for a free one.
        """
        ...

    async def unplug_network(self, name: str) -> None:
        """Forget a card that the guest has let go."""
        ...

    async def pause(self) -> None:
        """Stop the virtual CPUs."""
        ...

    async def resume(self) -> None:
        """Let the virtual CPUs go on."""
        ...

    async def close(self) -> None:
        """Let the VMM go, whether it lives or not; wakes those who wait for it."""
        ...

    def guest_is_up(self) -> None:
        """The guest's init has greeted."""
        return

    async def set_cpus(self, count: int) -> None:
        """Let the guest have so many of its CPUs.

        Raises BadRequest for more than it started with.
        """
        self._refuse("get other CPUs while it runs")

    async def set_memory(self, mib: int) -> None:
        """Let the guest have so many MiB of its memory, and wait until it has. Raises BadRequest
        for more than it could have had until now."""
        self._refuse("get other memory while it runs")

    async def plug_share(self, server: int, tag: str) -> None:
        """Plug the file system of a vhost-user server, the other end of a socket."""
        self._refuse("serve directories by virtiofs")

    async def forward_port(
        self, protocol: str, host_ip: str, host_port: int, guest_port: int
    ) -> None:
        """Pass a port of the host on to the guest, with the user-mode network. Raises Conflict."""
        self._refuse("have a user-mode network")

    async def unforward_port(self, protocol: str, host_ip: str, host_port: int) -> None:
        """The reverse of `forward_port`."""
        self._refuse("have a user-mode network")

    async def offer_memory(self, mib: int) -> None:
        """Let the guest have `mib` MiB besides those that it started with, once it has looked.

        It takes them piece by piece, see `plugged_memory`.
        """
        self._refuse("get more memory while it runs: stop it, and start it with what it needs")

    async def plugged_memory(self) -> int:
        """The MiB that the guest has taken of those that it was offered."""
        self._refuse("get more memory while it runs")

    async def host_memory(self) -> int:
        """The memory of this machine, in MiB."""
        return memory_sizes.host_mib()

    async def plug_cpus(self, count: int) -> None:
        """Plug what is missing of `count` CPUs, no more than the machine's `most_cpus`.

        The guest is to be told.
        """
        self._refuse("get more CPUs while it runs: stop it, and start it with what it needs")

    async def plugged_cpus(self) -> int:
        """How many CPUs the machine has, whether the guest uses them or not."""
        self._refuse("be saved")

    async def version(self) -> str:
        """The VMM's version, with the distribution's own."""
        self._refuse("be saved")

    async def save_state(self, fd: int, timeout: float) -> None:
        """Stop the VM and write its state, without RAM that is shared, in `timeout` seconds."""
        self._refuse("become a template")

    async def load_state(self, fd: int, timeout: float) -> None:
        """Continue a VM that was started as a clone, from a saved state."""
        self._refuse("be a clone")

    async def save_devices(self, fd: int) -> None:
        """Write the state of a stopped VM's devices to an empty file."""
        self._refuse("be saved")

    async def load_devices(self, fd: int, timeout: float) -> None:
        """Load what `save_devices` wrote into a machine with the same disks and cards."""
        self._refuse("be saved")

    async def settle(self) -> None:
        """Let the VMM finish what is under way."""
        self._refuse("be saved")

    async def ram_address(self) -> int:
        """Where the guest's RAM begins in the VMM's memory, in which it is contiguous."""
        self._refuse("be saved")

    async def card_slots(self) -> dict[str, str]:
        """The places on the PCI bus of the cards that were plugged, by their names."""
        self._refuse("be saved")

    def _refuse(self, what: str) -> NoReturn:
        raise NotSupported(f"a virtual machine of {self.features.name} can't {what}")


class Driver(Protocol):
    """A driver: a module with these functions."""

    def features(self, engine: str) -> Features:
        """What an engine of this driver can do."""
        ...

    def trouble(self, engine: str, image: GuestImage) -> str:
        """Why it can't run a guest here, in one line with the remedy; "" when it can."""
        ...

    def start(self, machine: Machine) -> Vmm:
        """Start a VM as a child of this process, which it does not outlive. Raises VMError."""
        ...

    def monitor(self, machine: Machine, vmm: Vmm) -> Monitor:
        """The handle of a VM that `start` has started, not connected yet."""
        ...


def load(engine: str) -> Driver:
    """The driver of an engine. Raises BadRequest for an unknown one."""
    if engine in QEMU:
        from . import qemu_driver

        return qemu_driver
    if engine in XEN:
        from . import xen_driver

        return xen_driver
    if engine == "vbox":
        from . import vbox_driver

        return vbox_driver
    if engine == "uml":
        from . import uml_driver

        return uml_driver
    raise BadRequest(f"accel: {engine!r} is none of {', '.join(CHOICES)}")


def check(machine: Machine, features: Features) -> None:
    """Raises NotSupported for a machine that an engine can't run."""
    if features.cpus and machine.cpus > features.cpus:
        raise NotSupported(
            f"{features.name} ({machine.accel}) has {features.cpus} CPU, not {machine.cpus}: ask"
            f" for {features.cpus}"
        )
    if machine.share and machine.share_driver not in features.shares:
        remedy = "use images, and volumes of the driver disk"
        if features.shares:
            remedy = f"it does by {' or '.join(features.shares)}"
        raise NotSupported(
            f"{features.name} ({machine.accel}) can't give a virtual machine directories by"
            f" {machine.share_driver}: {remedy}"
        )
    if machine.network == "user" and not features.user_network:
        raise NotSupported(
            f"{features.name} ({machine.accel}) has no user-mode network: use a network with a"
            " bridge, or none"
        )
