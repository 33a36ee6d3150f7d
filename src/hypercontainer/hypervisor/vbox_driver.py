"""VirtualBox as a driver: the engine `vbox`. Experimental: see docs/iso.md.

The VM boots the CD of `make iso`, and its serial ports are the guest's channels.
"""

import os
import signal
import socket
from typing import TYPE_CHECKING

from ..errors import VMError
from ..guest.kernel import GuestImage
from ..system import processes
from . import vbox_commands as commands
from .driver import Features
from .machine import Machine, Vmm

if TYPE_CHECKING:
    from .vbox import VirtualBox

_FEATURES = Features("VirtualBox", 120.0, 60.0, shares={}, user_network=True)


def features(engine: str) -> Features:
    """As `Driver`."""
    return _FEATURES


def trouble(engine: str, image: GuestImage) -> str:
    """As `Driver`."""
    try:
        commands.program()
    except VMError as error:
        return error.message
    if commands.boot_cd() is None:
        return "there is no CD to boot: run `make iso`"
    if image.kind == "custom":
        return "it boots what is on the CD of `make iso`: unset Kernel and Initrd"
    return ""


def start(machine: Machine) -> Vmm:
    """As `Driver`: the child is a process that keeps the VM."""
    from . import vbox_keeper

    cd = commands.boot_cd()
    if cd is None:
        raise VMError("there is no CD to boot: run `make iso`")
    pairs = [socket.socketpair() for _ in vbox_keeper.Ends._fields]
    errors_read, errors_write = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        for ours, _ in pairs:
            ours.close()
        ends = vbox_keeper.Ends(*(theirs for _, theirs in pairs))
        vbox_keeper.become(machine, cd, ends, errors_write, parent)
    os.close(errors_write)
    for ours, theirs in pairs:
        ours.setblocking(False)
        theirs.close()
    os.set_blocking(errors_read, False)
    control, streams, console, monitor = (ours for ours, _ in pairs)
    return Vmm(
        pid,
        processes.start_time(pid) or 0,
        control,
        streams,
        monitor,
        console,
        errors_read,
        end_signal=signal.SIGTERM,
    )


def monitor(machine: Machine, vmm: Vmm) -> "VirtualBox":
    """As `Driver`."""
    from .vbox import VirtualBox

    return VirtualBox(machine, _FEATURES)
