"""VirtualBox as a driver: the engine `vbox`. Experimental: see docs/iso.md.

The VM boots the CD of `make iso`, and its serial ports are the guest's channels.
"""

import os
import signal
from typing import TYPE_CHECKING

from ..errors import VMError
from ..guest.kernel import GuestImage
from . import vbox_commands as commands
from .driver import Features
from .machine import Machine, Vmm, open_channels

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
    channels = open_channels()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        for end in channels.ours:
            end.close()
        vbox_keeper.become(machine, cd, channels.theirs, channels.errors_write, parent)
    return channels.of(pid, end_signal=signal.SIGTERM)


def monitor(machine: Machine, vmm: Vmm) -> "VirtualBox":
    """As `Driver`."""
    from .vbox import VirtualBox

    return VirtualBox(machine, _FEATURES)
