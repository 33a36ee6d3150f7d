"""Xen as a driver: PVH guests are the engine `xen`, PV guests `xenpv`.

A domain is made and ended by `xl`; its devices are plugged by xenstore, and its channels are
consoles, whose other half a process beside the sandbox has (`xen_keeper`).
"""

import os
import signal
from typing import TYPE_CHECKING

from ..errors import VMError
from ..guest.kernel import GuestImage
from . import engines, xen_domain
from .driver import Features
from .machine import Machine, Vmm, open_channels

if TYPE_CHECKING:
    from .xen import Xen

_FEATURES = Features(
    name="Xen",
    boot_seconds=60.0,
    request_seconds=60.0,
    shares={"9p": "trans=xen,version=9p2000.L,cache=mmap,access=client"},
    kernel="xen",
)
_DEVICES = ("xenbus", "gntdev", "evtchn")


def features(engine: str) -> Features:
    """As `Driver`. Directories are served by the QEMU that Xen has for that, if it is there."""
    return _FEATURES if xen_domain.reaches_shares() else _FEATURES._replace(shares={})


def trouble(engine: str, image: GuestImage) -> str:
    """As `Driver`."""
    if not engines.xen_kinds():
        return "this host does not run on Xen: boot it by xen-hypervisor, or use another driver"
    if not engines.is_control_domain():
        return (
            "this is not Xen's control domain (no control_d in /proc/xen/capabilities): run it in"
            " dom0, or mount -t xenfs xenfs /proc/xen where that is missing"
        )
    if engine == "xen" and engines.of_xen() != "xen":
        return "this CPU runs no PVH guests: use xenpv"
    try:
        xen_domain.binary()
    except VMError as error:
        return error.message
    for name in _DEVICES:
        if not os.path.exists(f"/dev/xen/{name}"):
            return f"/dev/xen/{name} does not exist: modprobe xen-{name}"
    return ""


def start(machine: Machine) -> Vmm:
    """As `Driver`."""
    from . import xen_keeper

    channels = open_channels()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        xen_keeper.become(machine, channels.theirs, channels.errors_write, parent)
    return channels.of(pid, end_signal=signal.SIGTERM)


def monitor(machine: Machine, vmm: Vmm) -> "Xen":
    """As `Driver`."""
    from .xen import Xen

    return Xen(machine, vmm, features(machine.accel))
