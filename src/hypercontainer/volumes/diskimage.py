"""Checks of disk images that people bring: raw, and qcow2 (QEMU's docs/interop/qcow2.txt)."""

import os
import stat
import struct
from pathlib import Path

from ..errors import BadRequest, NotFound

_SECTOR = 512
_HEADER = struct.Struct(">4sIQIIQI")
_FEATURES = struct.Struct(">Q")
_MAGIC = b"QFI\xfb"
_EXTERNAL_DATA = 1 << 2
_CORRUPT = 1 << 1


def check_image(path: Path, kind: str, where: str) -> None:
    """Raises NotFound or BadRequest when a file is no usable image of the kind raw or qcow2.

    A qcow2 image must be whole in its file: one that names another file (a backing file or
    external data) would make the virtual machine read what its maker chose.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"{where}: disk image {path} does not exist") from None
    except OSError as error:
        raise BadRequest(f"{where}: disk image {path}: {(error.strerror or '').lower()}") from error
    try:
        status = os.fstat(fd)
        size = status.st_size
        if stat.S_ISBLK(status.st_mode):
            size = os.lseek(fd, 0, os.SEEK_END)
        elif not stat.S_ISREG(status.st_mode):
            raise BadRequest(f"{where}: {path} is neither a file nor a block device")
        reason = _raw_trouble(fd, size) if kind == "raw" else _qcow2_trouble(fd)
    finally:
        os.close(fd)
    if reason:
        raise BadRequest(f"{where}: disk image {path} {reason}")


def _raw_trouble(fd: int, size: int) -> str:
    if not size or size % _SECTOR:
        return f"has {size} bytes, which is no multiple of {_SECTOR}: is it cut off?"
    if os.pread(fd, 4, 0) == _MAGIC:
        return "is a qcow2 image: give format qcow2"
    return ""


def _qcow2_trouble(fd: int) -> str:
    header = os.pread(fd, 80, 0)
    if len(header) < 72 or header[:4] != _MAGIC:
        return "is no qcow2 image"
    _, version, backing, _, _, size, encryption = _HEADER.unpack_from(header)
    features = _FEATURES.unpack_from(header, 72)[0] if version >= 3 and len(header) >= 80 else 0
    if version not in (2, 3):
        return f"is qcow2 of version {version}: 2 and 3 are known"
    if backing:
        return "has a backing file: merge them (qemu-img convert)"
    if features & _EXTERNAL_DATA:
        return "has its data in another file: merge them (qemu-img convert)"
    if features & _CORRUPT:
        return "is marked as corrupt: see qemu-img check"
    if encryption:
        return "is encrypted, which is not supported"
    if not size or size % _SECTOR:
        return f"has {size} bytes, which is no multiple of {_SECTOR}"
    return ""
