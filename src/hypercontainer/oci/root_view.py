"""What the host process that stands for a container sees of files: the container's root, no more.

Engines enter its mount namespace to reach the container's files, as `podman cp`
does. They must not find the host's there.
"""

import os

from ..system import syscalls
from ..system.syscalls import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
)
from ..system.threads import in_mount_namespace


def leave_host_mounts() -> None:
    """Give this process mounts of its own; one that may not keeps the host's. Raises OSError."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
    except PermissionError:
        return
    syscalls.mount("", "/", "", MS_REC | MS_PRIVATE)


def show_only(pid: int, rootfs: str) -> None:
    """Make `rootfs` the root of a process that left the host's mounts. Raises OSError.

    Its program must be loaded already, libraries included.
    """
    path = f"/proc/{pid}/ns/mnt"
    if os.path.samefile(path, "/proc/self/ns/mnt"):
        return
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        in_mount_namespace(namespace, lambda: _pivot(rootfs, pid))
    finally:
        os.close(namespace)


def _pivot(rootfs: str, pid: int) -> None:
    syscalls.mount(rootfs, rootfs, "", MS_BIND | MS_REC)
    os.chdir(rootfs)
    if os.path.isdir("proc") and not os.path.islink("proc"):
        _show_process(pid)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", MNT_DETACH)


def _show_process(pid: int) -> None:
    """A /proc with that one process, for `podman top`."""
    syscalls.mount("proc", "proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=755")
    os.mkdir(f"proc/{pid}")
    syscalls.mount(f"/proc/{pid}", f"proc/{pid}", "", MS_BIND)
    for name in ("stat", "uptime"):
        os.close(os.open(f"proc/{name}", os.O_CREAT | os.O_WRONLY, 0o444))
        syscalls.mount(f"/proc/{name}", f"proc/{name}", "", MS_BIND)
