"""Telling engines that memory ran out in the guest.

They learn it from the memory control group on the host, by its own event
(`memory.oom_control` in version 1, `memory.events` in version 2). So memory is
made to run out there too, for a process that exists for this alone.
"""

import mmap
import os
import signal
import time

from ..system import cgroups

_MARGIN = 1 << 20
_STEP = 1 << 20
_MOST = 256 << 20
_BOUND = 5.0
# Version 1 and 2: what is in use, the limit, and how none is written.
_FILES = (
    ("memory.usage_in_bytes", "memory.limit_in_bytes", "-1"),
    ("memory.current", "memory.max", "max"),
)


def report_oom(group: list[str]) -> None:
    """Have a container's control group, given as its directories, see an OOM kill.

    Takes some 50 ms, at most 5 s. What can't be done is left out.
    """
    for directory in group:
        for usage, limit, unlimited in _FILES:
            try:
                with open(f"{directory}/{usage}") as file:
                    used = int(file.read())
            except (OSError, ValueError):
                continue
            if cgroups.write(directory, limit, str(used + _MARGIN)):
                try:
                    _run_out(directory)
                finally:
                    cgroups.write(directory, limit, unlimited)


def _run_out(directory: str) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            cgroups.enter([directory], os.getpid())
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")
            _take()
        finally:
            os._exit(0)
    deadline = time.monotonic() + _BOUND
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _take() -> None:
    held = []
    for _ in range(_MOST // _STEP):
        held.append(mmap.mmap(-1, _STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        for offset in range(0, _STEP, mmap.PAGESIZE):
            held[-1][offset] = 1
