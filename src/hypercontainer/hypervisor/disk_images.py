"""Disk images as VMMs get them: opened, and locked against other VMs."""

import asyncio
import fcntl
import os
import time

from ..errors import BadRequest, Conflict
from ..system.patience import patience

_GRACE = 1.0
_POLL = 0.02


async def open_image(path: str, *, read_only: bool) -> int:
    """A descriptor of an image, which others can't have for as long as it is open anywhere.

    A VM that is just ending may have it for a moment: that is waited for. Raises BadRequest when
    it can't be opened, Conflict when another VM has it.
    """
    try:
        fd = os.open(path, os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR))
    except OSError as error:
        raise BadRequest(f"cannot open disk image {path}: {error.strerror}") from error
    deadline = time.monotonic() + _GRACE * patience()
    try:
        while not _lock(fd, read_only):
            if time.monotonic() > deadline:
                raise Conflict(
                    f"disk image {path} is in use by another virtual machine: stop that one first"
                )
            await asyncio.sleep(_POLL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, read_only: bool) -> bool:
    """False while others have it. Where the file system has no locks, there are none."""
    try:
        fcntl.flock(fd, fcntl.LOCK_NB | (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
