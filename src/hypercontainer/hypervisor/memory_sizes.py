"""How much memory a VM can have, and in which steps it can get more while it runs.

More comes by a virtio-mem device (5.15 of virtio 1.2), which is plugged when it is first wanted.
ACPI has no part in it, whose memory would need tables that the guests are not given.
"""

import os

# The unit in which Linux adds memory to itself on x86 (`block_size_bytes` of its sysfs).
BLOCK_MIB = 128
_GIB = 1024
_LOW_MIB = 4 * _GIB
# The guest puts what cards have above 4 GiB right behind its RAM: the device is kept away from it.
_CARDS_MIB = _GIB
# The same on each machine, as snapshots go from one to another. Some processors have 64 GiB of
# addresses, all in all.
_MOST_MIB = 32 * _GIB


def host_mib() -> int:
    """The memory of this machine, in MiB."""
    return (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) >> 20


def _gib_up(mib: int) -> int:
    return -(-mib // _GIB) * _GIB


def most_plugged(host: int) -> int:
    """The MiB that a VM can get while it runs, on a machine with `host` MiB: the device's size.

    Linux grants no mapping of more than it has, unless its administrator says so.
    """
    return min(host // BLOCK_MIB * BLOCK_MIB, _MOST_MIB)


def maximum(memory_mib: int) -> int:
    """The MiB for which a VM that starts with `memory_mib` must have addresses."""
    return memory_mib + _LOW_MIB + _CARDS_MIB + _MOST_MIB


def address(memory_mib: int) -> int:
    """Where the device's memory begins in a VM that starts with `memory_mib`, in bytes."""
    return (_LOW_MIB + _gib_up(memory_mib) + _CARDS_MIB) << 20


def plugged_for(total_mib: int, memory_mib: int) -> int:
    """The MiB, in whole blocks, that make at least `total_mib` of `memory_mib`."""
    return -(-max(total_mib - memory_mib, 0) // BLOCK_MIB) * BLOCK_MIB
