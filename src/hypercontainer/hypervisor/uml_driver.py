"""User Mode Linux as a driver: a Linux kernel that is a program of the host's.

Its processes are processes of the host, whose system calls it takes by ptrace, so it needs neither
KVM nor an emulated CPU. It isolates less than a VM: docs/hypervisors.md.
"""

import os
from typing import TYPE_CHECKING

from ..guest.kernel import UML, UML_PACKAGE, GuestImage
from .driver import Features
from .machine import Machine, Vmm

if TYPE_CHECKING:
    from .uml import UserModeLinux

_FEATURES = Features(
    name="User Mode Linux",
    boot_seconds=30.0,
    request_seconds=30.0,
    shares={},
    kernel=UML,
    cpus=1,
)
_ELF = b"\x7fELF"


def features(engine: str) -> Features:
    """As `Driver`."""
    return _FEATURES


def trouble(engine: str, image: GuestImage) -> str:
    """As `Driver`."""
    if not image.kernel:
        return ""
    with open(image.kernel, "rb") as file:
        is_program = file.read(len(_ELF)) == _ELF and os.access(image.kernel, os.X_OK)
    if not is_program:
        return f"{image.kernel} is no program: a kernel for it is linux.uml of {UML_PACKAGE}"
    if os.geteuid() != 0:
        return "its jail takes root: run it as root"
    return ""


def start(machine: Machine) -> Vmm:
    """As `Driver`."""
    from .uml_start import start as start_uml

    return start_uml(machine)


def monitor(machine: Machine, vmm: Vmm) -> "UserModeLinux":
    """As `Driver`."""
    from .uml import UserModeLinux

    return UserModeLinux(vmm, _FEATURES)
