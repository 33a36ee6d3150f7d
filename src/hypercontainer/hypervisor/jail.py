"""The file system that QEMU sees: its own program, its boot files, the VM's share, no more.

A guest that breaks out of QEMU finds no host data there. Built in the forked
child before it executes QEMU, in a mount namespace that ends with it.
"""

import os
import stat
from collections.abc import Callable

from ..system import syscalls
from ..system.syscalls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
)

KVM = "/dev/kvm"
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_SETTINGS = ("/etc/ld.so.cache", "/etc/resolv.conf")


def enter(
    jail: str,
    files: list[str],
    share: str,
    kvm_user: int | None,
    add: Callable[[str], None] | None = None,
) -> bool:
    """Make `jail` (an empty directory) the root; what is in it keeps its host path.

    `files` are bound read-only, and `share` as it is: what the sandbox binds
    there later appears too. With `kvm_user` there is a `/dev/kvm`; returns
    whether it is that user's, and not the host's own. `add` puts more in, before
    the jail can't be written to any more. Raises OSError.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", MS_REC | MS_SLAVE)
    syscalls.mount("jail", jail, "tmpfs", MS_NOSUID, "size=256k,mode=755")
    for path in _PROGRAMS:
        _add_program(jail, path)
    for path in [*_SETTINGS, *files]:
        if os.path.exists(path):
            _bind_file(jail, path)
    owned = kvm_user is not None and _add_device(jail, KVM, kvm_user)
    # For /proc/self/fd, by which the 9p server changes modes; of other processes it shows nothing.
    os.mkdir(jail + "/proc", 0o555)
    syscalls.mount(
        "proc", jail + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid,hidepid=2"
    )
    if share:
        os.makedirs(jail + share)
        syscalls.mount(share, jail + share, "", MS_BIND | MS_REC)
    if add is not None:
        add(jail)
    syscalls.mount("", jail, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)
    os.chdir(jail)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
    return owned


def _add_program(jail: str, path: str) -> None:
    if os.path.islink(path):
        os.symlink(os.readlink(path), jail + path)
    elif os.path.isdir(path):
        os.makedirs(jail + path)
        syscalls.mount(path, jail + path, "", MS_BIND | MS_REC)
        _remount(jail + path, MS_RDONLY | MS_NOSUID | MS_NODEV)


def _bind_file(jail: str, path: str, flags: int = MS_RDONLY | MS_NOSUID | MS_NODEV) -> None:
    target = jail + path
    if os.path.lexists(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    syscalls.mount(path, target, "", MS_BIND)
    if flags:
        _remount(target, flags)


def _add_device(jail: str, path: str, user: int) -> bool:
    """A device node of one user's, so that it does not matter whom the host's belongs to.

    Where no node can be made (an unprivileged container), the host's, and returns False.
    """
    os.makedirs(os.path.dirname(jail + path), exist_ok=True)
    try:
        os.mknod(jail + path, stat.S_IFCHR | 0o600, os.stat(path).st_rdev)
    except PermissionError:
        _bind_file(jail, path, flags=0)
        return False
    os.chown(jail + path, user, -1)
    return True


def _remount(target: str, flags: int) -> None:
    syscalls.mount("", target, "", MS_BIND | MS_REMOUNT | flags)
