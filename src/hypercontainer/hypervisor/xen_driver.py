"""Xen as a driver: PVH guests are the engine `xen`, PV guests `xenpv`."""

from ..errors import VMError
from ..guest.kernel import GuestImage
from .driver import Features, Monitor
from .machine import Machine, Vmm


def features(engine: str) -> Features:
    """As `Driver`."""
    return Features("Xen", 60.0, 60.0, {}, kernel="xen")


def trouble(engine: str, image: GuestImage) -> str:
    """As `Driver`."""
    return "not yet"


def start(machine: Machine) -> Vmm:
    """As `Driver`."""
    raise VMError("not yet")


def monitor(machine: Machine, vmm: Vmm) -> Monitor:
    """As `Driver`."""
    raise VMError("not yet")
