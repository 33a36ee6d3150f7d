"""Memory as a file: memfds, which can be sealed against any change (memfd_create(2), fcntl(2))."""

import fcntl
import os

_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
# F_SEAL_SEAL, SHRINK, GROW, WRITE.
_SEALS = 0x1 | 0x2 | 0x4 | 0x8


def new(name: str, size: int) -> int:
    """A memfd of `size` bytes that can be sealed. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


def seal(fd: int) -> None:
    """Let nobody change it any more. Raises OSError while it is mapped to be written to."""
    fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)


def sealed(fd: int) -> bool:
    """Whether nobody can change it. Raises OSError for what is no memfd."""
    return fcntl.fcntl(fd, _F_GET_SEALS) == _SEALS
