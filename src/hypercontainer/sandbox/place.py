"""Where a sandbox process lives: what a forked one takes over from whoever wanted it."""

import os

from ..quick.types import TYPE_CHECKING, Any
from ..system import cgroups, processes, syscalls
from ..system.files import write_atomic

if TYPE_CHECKING:
    from ..hypervisor.machine import Vmm

LAUNCHED = "launched"
# Seconds for which VMs like the last one are kept ready.
IDLE = 300.0


def describe(group: list[str]) -> dict[str, Any]:
    """What of this process its sandbox is to have; `group` are directories of a control group."""
    with open("/proc/self/oom_score_adj") as file:
        return {"group": group, "oom_score_adj": int(file.read())}


def namespace() -> int:
    """A descriptor of this process's mount namespace."""
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def enter_namespace(mounts: int) -> None:
    """Enter the mount namespace of a descriptor, unless this thread is in it. Raises OSError."""
    own, wanted = os.stat("/proc/self/ns/mnt"), os.fstat(mounts)
    if (own.st_dev, own.st_ino) != (wanted.st_dev, wanted.st_ino):
        # The kernel refuses a thread that shares its root and working directory with others.
        syscalls.unshare(syscalls.CLONE_FS)
        syscalls.setns(mounts, syscalls.CLONE_NEWNS)
    os.chdir("/")


def take(state_dir: str, wanted: dict[str, Any], vmm: "Vmm | None" = None) -> None:
    """Take the place of `describe` with this process and its VMM, and say in `state_dir` who we
    are: a command that is killed meanwhile leaves no other trace. Raises OSError."""
    name_process("hyper-sandbox")
    pid = os.getpid()
    started = processes.start_time(pid) or 0
    write_atomic(os.path.join(state_dir, LAUNCHED), f"{pid} {started}".encode())
    for member in (pid, *_members(vmm)):
        cgroups.enter(wanted.get("group", []), member)
        adjust = wanted.get("oom_score_adj", 0)
        try:
            with open(f"/proc/{member}/oom_score_adj", "w") as file:
                file.write(str(adjust))
        except OSError:
            continue


def leaders(vmm: "Vmm | None") -> list[int]:
    """The processes of a VM that lead groups: the VMM, and what serves its share."""
    if vmm is None:
        return []
    return [vmm.pid, vmm.server.pid] if vmm.server else [vmm.pid]


def _members(vmm: "Vmm | None") -> list[int]:
    """All processes of a VM; virtiofsd is a child of the one that we started."""
    return [pid for leader in leaders(vmm) for pid in (leader, *processes.children(leader))]


def name_process(name: str) -> None:
    """What `ps -e` calls this process, whose command line is that of the one it was forked from."""
    with open(f"/proc/{os.getpid()}/comm", "w") as file:
        file.write(name)


def become_standard(stdout: int, stderr: int) -> None:
    """Make descriptors this process's stdout and stderr."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)


def only_descriptors(kept: list[int]) -> None:
    """Close all but standard streams and `kept`: an end of a socket that somebody waits for."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue
