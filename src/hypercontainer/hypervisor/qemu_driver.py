"""QEMU as a driver: of `kvm` and of `tcg`, its emulation."""

from typing import TYPE_CHECKING

from ..guest.kernel import GuestImage
from .driver import Features
from .machine import Machine, Vmm

if TYPE_CHECKING:
    from .qemu import Qemu

_SHARES = {
    "9p": "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=client",
    "virtiofs": "",
}
_KVM = Features(
    name="QEMU",
    boot_seconds=20.0,
    request_seconds=30.0,
    shares=_SHARES,
    templates=True,
    snapshots=True,
    user_network=True,
)
_TCG = _KVM._replace(boot_seconds=60.0, request_seconds=90.0)


def features(engine: str) -> Features:
    """As `Driver`."""
    return _KVM if engine == "kvm" else _TCG


def trouble(engine: str, image: GuestImage) -> str:
    """As `Driver`. For KVM it takes seconds the first time."""
    if engine == "tcg":
        return ""
    from .accel import kvm_trouble

    return kvm_trouble(image)


def start(machine: Machine) -> Vmm:
    """As `Driver`."""
    from .qemu_start import start as start_qemu

    return start_qemu(machine)


def monitor(machine: Machine, vmm: Vmm) -> "Qemu":
    """As `Driver`."""
    from .qemu import Qemu

    return Qemu(vmm, features(machine.accel), machine)
