"""Linux system calls that Python's `os` lacks, by ctypes on libc."""

import ctypes
import os

from ..quick.types import Any, Iterable

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2

_IN_MODIFY, _IN_CLOSE_WRITE = 0x2, 0x8
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MEMORY_MERGE = 67
_PR_GET_MEMORY_MERGE = 68
_LAST_CAP = 63
_ADDR_NO_RANDOMIZE = 0x40000
_SYS_PIDFD_SEND_SIGNAL = 424
# The numbers of these are the same on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_MOUNT_ATTR_RDONLY = 1
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def call(what: str, number: int, *arguments: Any) -> int:
    """syscall(2), for one that has no function of its own. Raises OSError that says `what`."""
    return _check(_libc.syscall(number, *arguments), what)


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2). Raises OSError."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, fstype: str, flags: int, data: str = "") -> None:
    """mount(2). Raises OSError."""
    result = _libc.mount(
        source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _check(result, f"mount {target}")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    _check(_libc.umount2(target.encode(), flags), f"unmount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). Raises OSError."""
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, new_root.encode(), put_old.encode()), "pivot_root")


def open_tree(path: str) -> int:
    """A descriptor of a copy of the mounts at `path` and below (open_tree(2)). Raises OSError."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    return _check(
        _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, path.encode(), flags), f"mount of {path}"
    )


def make_read_only(tree: int) -> None:
    """Make all mounts of what `open_tree` gave read-only (mount_setattr(2)). Raises OSError."""
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    result = _libc.syscall(
        *(_SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attributes)),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _check(result, "mount_setattr")


def move_mount(tree: int, target: str) -> None:
    """Attach what `open_tree` gave at `target` (move_mount(2)). Raises OSError."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH
    result = _libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), flags)
    _check(result, f"mount on {target}")


def inotify_writes(path: str) -> int:
    """A non-blocking descriptor that is readable once somebody wrote the file. Raises OSError."""
    fd = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
    try:
        _check(_libc.inotify_add_watch(fd, path.encode(), _IN_MODIFY | _IN_CLOSE_WRITE), path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def die_with_parent(signum: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends (cleared by setuid)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0), "prctl pdeathsig")


def fixed_addresses() -> None:
    """No random addresses for the programs that this process executes (personality(2))."""
    _check(_libc.personality(_ADDR_NO_RANDOMIZE), "personality")


def memory_merge() -> bool | None:
    """Whether KSM may merge this process's memory; None where the kernel has no such thing."""
    is_merged = _libc.prctl(_PR_GET_MEMORY_MERGE, 0, 0, 0, 0)
    return bool(is_merged) if is_merged >= 0 else None


def set_memory_merge(wanted: bool) -> None:
    """Let KSM merge this process's memory, or take apart what is merged. Raises OSError."""
    _check(_libc.prctl(_PR_SET_MEMORY_MERGE, int(wanted), 0, 0, 0), "prctl memory_merge")


def no_new_privileges() -> None:
    """No exec by this process or its children can gain privileges."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl no_new_privs")


def keep_only_capabilities(keep: Iterable[int]) -> None:
    """Drop all but `keep` (capability numbers) from the bounding set, for the next exec."""
    wanted = set(keep)
    for number in range(_LAST_CAP + 1):
        if number not in wanted:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def pidfd_send_signal(fd: int, signum: int) -> None:
    """Signal the process of a pidfd. Raises OSError (ProcessLookupError when it is gone)."""
    result = _libc.syscall(_SYS_PIDFD_SEND_SIGNAL, fd, signum, None, 0)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
