"""Errors of this package, and the check for the programs that it runs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BadRequest, HyperError, NoSpace, NotSupported, is_full

PROGRAM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class RegistryError(HyperError):
    """A registry can't be reached, or answers with an error."""

    code = "registry"
    status = 502


class AccessDenied(HyperError):
    """A registry refuses the user, or wants one."""

    code = "access_denied"
    status = 403


class BadImage(BadRequest):
    """An image, archive or layer is damaged, hostile, or of a kind that can't run."""

    code = "bad_image"


def quoted(name: bytes | str) -> str:
    """A name out of an archive, safe to show on one line, shortened."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return repr(shown if len(shown) <= 200 else f"{shown[:200]}…").replace("\\\\", "\\")


def readable_size(size: float) -> str:
    """Bytes as people read them: `12.3 MB` (powers of ten)."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def find_program(name: str, package: str) -> str:
    """The path of a program; raises NotSupported that names its Debian package."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PROGRAM_PATH}")
    if path is None:
        raise NotSupported(f"no program {name}: install it with `apt-get install {package}`")
    return path


def no_space(place: str, need: str) -> NoSpace:
    """The disk under `place` is full; `need` says for what: `layer abc needs 5 MB`."""
    return NoSpace(f"no space left on {place}: {need}; free some, or set another Root")


@contextmanager
def disk_errors(place: str, need: str) -> Iterator[None]:
    """Turns a full disk within the block into NoSpace."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise no_space(place, need) from error
        raise
