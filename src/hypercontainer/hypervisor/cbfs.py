"""Reading a CBFS, coreboot's file system in flash, and finding it sound.

The format is that of util/cbfstool of coreboot 4.15 (`cbfs.h`, `cbfs_image.c`), in big-endian
numbers: the last four bytes, little-endian, say where the master header is, counted from the end;
files follow each other, aligned, with a header each. `firmware/src/cbfs.c` reads the same.
"""

import mmap
import struct
from typing import NamedTuple

from ..errors import BadRequest

KERNEL, INITRD, COMMAND_LINE = "vmlinuz", "initrd", "cmdline"
_MAGIC, _FILE_MAGIC = b"ORBC", b"LARCHIVE"
# magic, version, size of the ROM, size of the boot block, alignment, offset of the first file,
# architecture, padding
_HEADER = struct.Struct(">4sIIIII8x")
# magic, size, type, offset of the attributes, offset of the data
_FILE = struct.Struct(">8sIIII")
_ATTRIBUTE = struct.Struct(">II")
_COMPRESSION = 0x42435A4C


class File(NamedTuple):
    """Where a file's data is, in bytes from the start."""

    offset: int
    size: int


class _Damaged(Exception):
    """What is wrong."""


def read(path: str) -> dict[str, File]:
    """The files of a CBFS that a VM can boot from. Raises BadRequest, OSError."""
    with _mapped(path) as data:
        try:
            files = _files(data)
        except (_Damaged, struct.error) as error:
            raise _unusable(path, str(error)) from None
    for name, what in ((KERNEL, "kernel"), (INITRD, "initrd")):
        if name not in files:
            raise _unusable(path, f"no {what} (a file named {name})")
    return files


def holds(path: str, file: File, content: bytes) -> bool:
    """Whether a file of the CBFS has that content. Raises OSError."""
    if len(content) != file.size:
        return False
    with _mapped(path) as data:
        return data[file.offset : file.offset + file.size] == content


def _unusable(path: str, why: str) -> BadRequest:
    return BadRequest(f"cbfs {path}: {why}: `make cbfs` makes one")


def _mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def _files(data: mmap.mmap) -> dict[str, File]:
    size = len(data)
    back = -int.from_bytes(data[-4:], "little", signed=True)
    if not _HEADER.size + 4 <= back <= size or data[size - back :][:4] != _MAGIC:
        raise _Damaged("no master header")
    _, _, rom_size, _, align, at = _HEADER.unpack_from(data, size - back)
    if rom_size != size:
        raise _Damaged(f"the master header is damaged: it tells of {rom_size} bytes of {size}")
    if not 4 <= align <= 1 << 16 or align & (align - 1) or at > size - back:
        raise _Damaged("the master header is damaged: places that can't be")
    files: dict[str, File] = {}
    while size - at >= _FILE.size and data[at : at + 8] == _FILE_MAGIC:
        _, length, _, attributes, offset = _FILE.unpack_from(data, at)
        if not _FILE.size <= offset <= size - at or length > size - at - offset:
            raise _Damaged(f"the file at {at} reaches beyond the end")
        if attributes > offset:
            raise _Damaged(f"the file at {at} has a damaged header")
        name = data[at + _FILE.size : at + (attributes or offset)].split(b"\0")[0]
        text = name.decode("ascii", "replace")
        compressed = attributes and _is_compressed(data[at + attributes : at + offset])
        if compressed and text in (KERNEL, INITRD, COMMAND_LINE):
            raise _Damaged(f"the file {text} is compressed")
        files.setdefault(text, File(at + offset, length))
        at = -(-(at + offset + length) // align) * align
    return files


def _is_compressed(attributes: bytes) -> bool:
    while len(attributes) >= _ATTRIBUTE.size:
        tag, length = _ATTRIBUTE.unpack_from(attributes)
        if not _ATTRIBUTE.size <= length <= len(attributes):
            return False
        if tag == _COMPRESSION and length >= _ATTRIBUTE.size + 4:
            return any(attributes[_ATTRIBUTE.size : _ATTRIBUTE.size + 4])
        attributes = attributes[length:]
    return False
