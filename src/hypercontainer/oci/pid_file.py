"""Pid files, as engines ask for them."""

import os

from ..errors import BadRequest, HyperError


def check_pid_file(path: str) -> None:
    """Raises BadRequest for a pid file in a directory that does not exist."""
    if path and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise BadRequest(f"pid file {path}: no such directory")


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid file in one step. Raises HyperError."""
    if not path:
        return
    from ..system.files import write_atomic

    try:
        write_atomic(path, str(pid).encode(), 0o644)
    except OSError as error:
        raise HyperError(f"pid file {path}: {error.strerror}") from None


def remove_pid_file(path: str) -> None:
    """Take back what `write_pid_file` wrote, if it did."""
    try:
        os.unlink(path)
    except OSError:
        pass
