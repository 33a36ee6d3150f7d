"""How many CPUs a VM can have while it runs."""

import os

from ..guest.kernel import GuestImage
from ..guest.platforms import NATIVE
from . import elf
from .engines import QEMU

# Each that a kernel knows of costs all its guests, whether it ever comes: see docs/templates.md.
_MOST = 8


def host_cpus() -> int:
    """The CPUs of this machine."""
    return os.cpu_count() or 1


def most(cpus: int, image: GuestImage, accel: str, architecture: str) -> int:
    """Up to how many CPUs a VM that starts with `cpus` can get, 0 when it can't get any.

    No more than this machine has, and only with a kernel that can be told of them: one that is
    entered by PVH, or that the project's firmware starts. Raises OSError.
    """
    count = min(host_cpus(), _MOST)
    if count <= cpus or accel not in QEMU or architecture != NATIVE:
        return 0
    told = image.cbfs or elf.pvh_entry(image.kernel) is not None
    return count if told else 0
