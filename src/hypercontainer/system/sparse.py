"""Copies of files that are mostly holes."""

import errno
import fcntl
import os
from collections.abc import Iterator

_FICLONE = 0x40049409  # linux/fs.h
_CHUNK = 1 << 20
_BLOCK = 1 << 16


def clone(old: int, new: int) -> bool:
    """Let an empty file share the blocks of another, where the file system can."""
    try:
        fcntl.ioctl(new, _FICLONE, old)
    except OSError:
        return False
    return True


def copy(old: int, new: int) -> None:
    """Make a new, empty file what another is; its holes stay holes. Raises OSError."""
    if clone(old, new):
        return
    size = os.fstat(old).st_size
    os.ftruncate(new, size)
    copy_data(old, new, size)


def copy_data(old: int, new: int, size: int) -> None:
    """Write what a file has data for, up to `size` bytes, to another. Raises OSError."""
    for begin, end in extents(old, size):
        for offset, data in pieces(old, begin, end):
            write_at(new, data, offset)


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The beginnings and ends of what a file has data for, up to `size` bytes. Raises OSError."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        yield begin, end


def pieces(fd: int, begin: int, end: int, most: int = _CHUNK) -> Iterator[tuple[int, bytes]]:
    """What a file has between two offsets, in pieces of at most `most` bytes. Raises OSError."""
    while begin < end:
        data = os.pread(fd, min(end - begin, most), begin)
        if not data:
            return
        yield begin, data
        begin += len(data)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at an offset. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def digest(fd: int, into: int = -1) -> str:
    """SHA-256 of what a file has besides zeros, as hexadecimal digits; it is copied to `into`.

    However the holes lie, the same content gives the same digest. Raises OSError.
    """
    from hashlib import sha256

    result = sha256()
    size = os.fstat(fd).st_size
    result.update(size.to_bytes(8, "big"))
    for block in _blocks(fd, size):
        data = os.pread(fd, _BLOCK, block)
        if data.count(0) == len(data):
            continue
        result.update(block.to_bytes(8, "big") + data)
        if into >= 0:
            write_at(into, data, block)
    return result.hexdigest()


def _blocks(fd: int, size: int) -> Iterator[int]:
    """Offsets of the blocks that extents touch."""
    following = 0
    for begin, end in extents(fd, size):
        yield from range(max(begin - begin % _BLOCK, following), end, _BLOCK)
        following = -(-end // _BLOCK) * _BLOCK
