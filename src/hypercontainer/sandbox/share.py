"""The directory that the VM is given a share of, in a mount namespace of the sandbox's own.

What is bound there vanishes with the sandbox process, whatever ends it.
"""

import os
import shutil
import stat
from collections.abc import Callable
from typing import TypeVar

from ..errors import BadRequest
from ..system import syscalls
from ..system.syscalls import MS_REC, MS_SHARED, MS_SLAVE
from ..system.threads import in_mount_namespace

_SIZE = "size=1m,mode=755"
T = TypeVar("T")


class Share:
    """Host files and directories bound below one root, by container."""

    def __init__(self, root: str) -> None:
        """Enter a mount namespace of our own. Raises OSError."""
        self.root = root
        self._count = 0
        self._own: int | None = None
        os.makedirs(root, exist_ok=True)
        self._host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "", MS_REC | MS_SLAVE)
        syscalls.mount("hyper", root, "tmpfs", 0, _SIZE)
        # The namespace of what serves it, a copy of ours, gets what is bound here later.
        syscalls.mount("", root, "", MS_SHARED)

    def leave(self, own: int, host: int) -> None:
        """Say that the process has left its own mount namespace `own` for `host` (descriptors).

        The share stays in `own`; sources are looked up in `host`.
        """
        os.close(self._host)
        self._own, self._host = own, host

    def _inside(self, work: Callable[[], T]) -> T:
        return work() if self._own is None else in_mount_namespace(self._own, work)

    def bind(self, cid: str, source: str, *, read_only: bool) -> str:
        """Make `source` appear in the share; returns its path there.

        It is looked up in the host's mount namespace, so that what an engine
        mounted after our start is found. Raises BadRequest when it does not
        exist or can't be bound.
        """
        try:
            tree, is_directory = in_mount_namespace(self._host, lambda: _take(source))
        except FileNotFoundError:
            raise BadRequest(f"bind source {source} does not exist on the host") from None
        except OSError as error:
            raise BadRequest(f"cannot bind {source}: {error.strerror}") from error
        self._count += 1
        path = f"{cid}/{self._count}"
        target = os.path.join(self.root, path)
        try:
            self._inside(lambda: _attach(tree, target, is_directory, read_only))
        except OSError as error:
            raise BadRequest(f"cannot bind {source}: {error.strerror}") from error
        finally:
            os.close(tree)
        return path

    def release(self, cid: str) -> None:
        """Unbind everything of a container; the guest must have let it go."""
        self._inside(lambda: _detach_all(os.path.join(self.root, cid)))


def _attach(tree: int, target: str, is_directory: bool, read_only: bool) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if is_directory:
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    if read_only:
        # Before: the server's namespace gets a copy of the mount as it is when it is attached.
        syscalls.make_read_only(tree)
    syscalls.move_mount(tree, target)


def _detach_all(directory: str) -> None:
    if not os.path.isdir(directory):
        return
    for name in os.listdir(directory):
        target = os.path.join(directory, name)
        while os.path.ismount(target) or _is_bound_file(target, directory):
            syscalls.umount(target, syscalls.MNT_DETACH)
    shutil.rmtree(directory)


def _take(source: str) -> tuple[int, bool]:
    """A copy of the mounts of a host path, and whether it is a directory."""
    return syscalls.open_tree(source), stat.S_ISDIR(os.stat(source).st_mode)


def _is_bound_file(target: str, directory: str) -> bool:
    """Whether a file of the share is a mount, seen by its device."""
    return os.path.isfile(target) and os.stat(target).st_dev != os.stat(directory).st_dev
