"""User Mode Linux as a driver: a Linux kernel that is a program of the host's.

Its processes are processes of the host, whose system calls it takes by ptrace, so it needs neither
KVM nor an emulated CPU. It isolates less than a VM: docs/hypervisors.md.
"""

import os
import re
import subprocess
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
# With AMX (8 KiB) the registers that ptrace takes are more than the 2,696 bytes that the kernel
# has room for: HOST_FP_SIZE of arch/x86/um/user-offsets.c, Linux 6.1. It panics at its first
# process. Later ones ask the processor.
_WIDE_REGISTERS = "amx_tile"
_ROOM_SINCE = (6, 13)
_VERSION_BOUND = 10.0


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
    if _has_wide_registers() and _version(image.kernel) < _ROOM_SINCE:
        return (
            f"{image.kernel} can't run on a processor with AMX, whose registers it has no room for:"
            " use another engine"
        )
    return ""


def _has_wide_registers() -> bool:
    with open("/proc/cpuinfo") as file:
        flags = next((line for line in file if line.startswith("flags")), "")
    return _WIDE_REGISTERS in flags.split()


def _version(program: str) -> tuple[int, int]:
    """What a kernel says that it is; (0, 0) if that is nothing."""
    try:
        said = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_BOUND,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0, 0
    found = re.match(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def start(machine: Machine) -> Vmm:
    """As `Driver`."""
    from .uml_start import start as start_uml

    return start_uml(machine)


def monitor(machine: Machine, vmm: Vmm) -> "UserModeLinux":
    """As `Driver`."""
    from .uml import UserModeLinux

    return UserModeLinux(vmm, _FEATURES)
