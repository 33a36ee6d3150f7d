"""Seccomp filters that have been compiled before, kept for the next container with the same.

    TEMPLATES/.seccomp/KEY   flags and program of one; KEY is the hash of all that it comes of

Engines give all containers the same filter, which takes libseccomp 10 ms and more to compile, twice
for each: for who checks a configuration and for who sends it to the guest.
"""

import os

from ..quick import json
from ..quick.types import Any
from ..system.directories import TEMPLATES
from ..system.files import write_atomic

_DIRECTORY = os.path.join(TEMPLATES, ".seccomp")
_MOST = 64
_MAX_SIZE = 1 << 17
_LIBRARY = "libseccomp.so.2"
_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


def compiled(seccomp: dict[str, Any], architecture: str) -> tuple[str, int]:
    """The filter as `seccomp.compile_filter` gives it, which says what is raised."""
    path = _path(seccomp, architecture)
    if path and (known := _read(path)):
        return known
    from .seccomp import compile_filter

    program, flags = compile_filter(seccomp, architecture)
    if path:
        _keep(path, f"{flags} {program}")
    return program, flags


def _path(seccomp: dict[str, Any], architecture: str) -> str:
    """Where the filter is kept, "" if it can't be told what it comes of."""
    library = next((p for d in _LIBRARIES if os.path.exists(p := f"{d}/{_LIBRARY}")), "")
    if not library:
        return ""
    from _blake2 import blake2b

    sources = [os.stat(path) for path in (library, os.path.join(_here(), "seccomp.py"))]
    versions = [[status.st_ino, status.st_size, status.st_mtime_ns] for status in sources]
    text = json.dumps([seccomp, architecture, versions])
    return os.path.join(_DIRECTORY, blake2b(text.encode(), digest_size=32).hexdigest())


def _here() -> str:
    return os.path.dirname(os.path.abspath(__file__))


def _read(path: str) -> tuple[str, int] | None:
    """What is kept there, if it is our own user's."""
    try:
        if not _is_own(os.lstat(_DIRECTORY)):
            return None
        with open(path, "rb", opener=_open_own) as file:
            flags, _, program = file.read(_MAX_SIZE).decode("ascii").partition(" ")
        return (program, int(flags)) if program else None
    except (OSError, ValueError):
        return None


def _open_own(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NOFOLLOW)
    if not _is_own(os.fstat(fd)):
        os.close(fd)
        raise PermissionError(f"{path} is another user's")
    return fd


def _is_own(status: os.stat_result) -> bool:
    """Whether nobody but us could have written there."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _keep(path: str, text: str) -> None:
    """Keep a filter, in the place of the one that has been there longest; or not, if that fails."""
    try:
        os.makedirs(TEMPLATES, mode=0o700, exist_ok=True)
        if not os.path.isdir(_DIRECTORY):
            os.mkdir(_DIRECTORY, 0o700)
        if not _is_own(os.lstat(_DIRECTORY)):
            return
        kept = [entry.path for entry in os.scandir(_DIRECTORY)]
        for old in sorted(kept, key=os.path.getmtime)[: max(len(kept) - _MOST + 1, 0)]:
            os.unlink(old)
        write_atomic(path, text.encode())
    except OSError:
        return
