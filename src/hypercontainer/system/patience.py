"""How much longer than an idle host this one may take for what a VM does, to scale bounds by."""

import functools
import os

_MAX_LOAD = 5.0
# Guests of an emulated host run two emulations deep, which no load average shows.
_EMULATED = 6.0
_EMULATED_CPU = "QEMU TCG CPU"


def patience() -> float:
    """The factor: runnable processes per CPU, from 1 to 5, times `slowness`."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(max(load, 1.0), _MAX_LOAD) * slowness()


@functools.cache
def slowness() -> float:
    """The factor of the machine itself: 1, more if its CPU is emulated.

    That is known by the name that QEMU gives the CPU which it emulates with all it can (-cpu max).
    """
    with open("/proc/cpuinfo") as file:
        names = [line for line in file if line.startswith("model name")]
    return _EMULATED if any(_EMULATED_CPU in name for name in names) else 1.0
