"""The RAM of a VM that does not run, read from its VMM's memory.

Private mappings are not in a migration stream of their own, and one with RAM would have to be
loaded by each copy; a file of it is mapped by all.
"""

import os
import re

from ..errors import NoSpace, VMError, is_full
from ..system import sparse

_PAGE = os.sysconf("SC_PAGESIZE")
_ENTRY = 8
# Documentation/admin-guide/mm/pagemap.rst, the highest byte of an entry: bit 63 present, 62
# swapped, 61 a page of a file or shared.
_PRIVATE = bytes(int(bool(top & 0xC0) and not top & 0x20) for top in range(256))
_RUNS = re.compile(rb"\x01+")
_CHUNK = 1 << 20
_MEMFD = "/memfd:"


def copy(pid: int, address: int, size: int, target: int) -> int:
    """Write `size` bytes of RAM, at `address` of the process `pid`, to the empty file `target`.

    What a clone has not written to is its template's. Returns how many bytes are data. Raises
    VMError, NoSpace.
    """
    try:
        os.ftruncate(target, size)
        base = _open_base(pid, address)
        if base is not None:
            try:
                sparse.copy_data(base, target, size)
            finally:
                os.close(base)
        with (
            open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,
            open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap,
        ):
            _copy_private(memory.fileno(), pagemap.fileno(), address, size, target)
        return 512 * os.fstat(target).st_blocks
    except OSError as error:
        if is_full(error):
            raise NoSpace(f"save the memory of the virtual machine: {error.strerror}") from error
        raise VMError(f"save the memory of the virtual machine: {error.strerror}") from error


def _open_base(pid: int, address: int) -> int | None:
    """The memfd of which the memory at an address is a private mapping, None when it is none."""
    inode = _memfd_at(pid, address)
    if inode is None:
        return None
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        if os.stat(path).st_ino == inode and os.readlink(path).startswith(_MEMFD):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    raise VMError("save the memory of the virtual machine: QEMU has let its template go")


def _memfd_at(pid: int, address: int) -> int | None:
    """The inode of a mapped memfd (proc(5), maps)."""
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            span, _, _, _, inode, *path = line.split(None, 5)
            begin, end = (int(part, 16) for part in span.split("-"))
            if begin <= address < end:
                return int(inode) if path and path[0].startswith(_MEMFD) else None
    raise VMError("save the memory of the virtual machine: it is not where QEMU says")


def _copy_private(memory: int, pagemap: int, address: int, size: int, target: int) -> None:
    first, count = address // _PAGE, size // _PAGE
    for offset, entries in sparse.pieces(pagemap, _ENTRY * first, _ENTRY * (first + count)):
        page = offset // _ENTRY - first
        for run in _RUNS.finditer(entries[_ENTRY - 1 :: _ENTRY].translate(_PRIVATE)):
            begin, end = ((page + number) * _PAGE for number in run.span())
            for at, data in sparse.pieces(memory, address + begin, address + end, _CHUNK):
                sparse.write_at(target, data, at - address)
