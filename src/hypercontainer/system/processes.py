"""Processes of the host, known by pid and start time so that a reused pid is never mistaken."""

import os
import select
import time


def boot_id() -> str:
    """The random name of the host's boot (random(4)); a start time tells nothing of another's."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def start_time(pid: int) -> int | None:
    """The start of a process in clock ticks since boot (proc(5), stat field 22); None if gone.

    A zombie counts as gone.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def children(pid: int) -> list[int]:
    """The children of a process's first thread (proc(5)); none where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def stand_alone(errors: int) -> None:
    """In a forked child: a session of its own, nothing to read, stdout to nobody, and stderr to
    the descriptor `errors`."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(errors, 2)


def alive(pid: int, started: int) -> bool:
    """Whether the process that had `pid` and start time `started` still runs."""
    return pid > 0 and start_time(pid) == started


def kill_and_wait(pid: int, started: int, signum: int, timeout: float) -> bool:
    """Signal that very process and wait at most `timeout` seconds for its end.

    Returns whether it is gone. Works for processes that are not children.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if start_time(pid) != started:
            return True
        from .syscalls import pidfd_send_signal

        try:
            pidfd_send_signal(fd, signum)
        except ProcessLookupError:
            return True
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if poller.poll(left * 1000):
                return True
        return False
    finally:
        os.close(fd)


def usage(pid: int) -> tuple[int, int] | None:
    """Nanoseconds of CPU time and bytes of resident memory of a process; None if it is gone."""
    if pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = int(fields[11]) + int(fields[12])
    cpu = ticks * 10**9 // os.sysconf("SC_CLK_TCK")
    return cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
