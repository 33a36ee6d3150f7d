"""The layer that a directory in overlayfs' form is: the way back of `unpack`.

A tar of changes (OCI image specification, "Image Layer Filesystem Changeset"), by overlayfs' marks:
a character device 0:0 for what is gone, trusted.overlay.opaque for a directory that hides others.
"""

import os
import stat
from collections.abc import Iterator

from ..errors import NotSupported
from .compression import CHUNK
from .failures import BadImage, quoted
from .layerentries import OPAQUE, WHITEOUT
from .tarstream import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
)
from .tarwrite import header

_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_OVERLAY = "trusted.overlay."
_KEPT = ("user.", "security.capability")
# A directory renamed, or a file without its data: what counts is elsewhere then.
_ELSEWHERE = (f"{_OVERLAY}redirect", f"{_OVERLAY}metacopy")


def layer_of(directory: bytes) -> Iterator[bytes]:
    """The layer's tar, piece by piece. Blocks; raises NotSupported, BadImage (it changes)."""
    links: dict[tuple[int, int], bytes] = {}
    yield from _directory(directory, b"", links)
    yield bytes(2 * BLOCK)


def _directory(root: bytes, name: bytes, links: dict[tuple[int, int], bytes]) -> Iterator[bytes]:
    path = os.path.join(root, name) if name else root
    for entry in sorted(os.scandir(path), key=lambda e: e.name):
        member = os.path.join(name, entry.name)
        about = entry.stat(follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(about.st_mode))
        if kind is None:
            continue  # a socket
        if kind == CHAR and about.st_rdev == 0:
            yield header(_entry(FILE, about, {}), os.path.join(name, WHITEOUT + entry.name))
            continue
        marks = os.listxattr(entry.path, follow_symlinks=False)
        if any(mark in _ELSEWHERE for mark in marks):
            raise NotSupported(f"{quoted(member)} was renamed by overlayfs: its layer is not known")
        yield from _member(entry.path, member, kind, about, _kept(entry.path, marks), links)
        if kind == DIRECTORY:
            if f"{_OVERLAY}opaque" in marks:
                yield header(_entry(FILE, about, {}), os.path.join(member, OPAQUE))
            yield from _directory(root, member, links)


def _kept(path: bytes, names: list[str]) -> dict[bytes, bytes]:
    return {
        os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
        for name in names
        if name.startswith(_KEPT)
    }


def _entry(kind: bytes, about: os.stat_result, xattrs: dict[bytes, bytes], size: int = 0) -> Entry:
    return Entry(
        name=b"",
        kind=kind,
        mode=about.st_mode & 0o7777,
        uid=about.st_uid,
        gid=about.st_gid,
        size=size,
        mtime=int(about.st_mtime),
        link=b"",
        major=os.major(about.st_rdev),
        minor=os.minor(about.st_rdev),
        xattrs=xattrs,
    )


def _member(
    path: bytes,
    name: bytes,
    kind: bytes,
    about: os.stat_result,
    xattrs: dict[bytes, bytes],
    links: dict[tuple[int, int], bytes],
) -> Iterator[bytes]:
    if kind == SYMLINK:
        yield header(_entry(kind, about, xattrs), name, os.readlink(path))
        return
    if kind != DIRECTORY and about.st_nlink > 1:
        first = links.setdefault((about.st_dev, about.st_ino), name)
        if first != name:
            yield header(_entry(HARDLINK, about, {}), name, first)
            return
    if kind != FILE:
        yield header(_entry(kind, about, xattrs), name)
        return
    yield header(_entry(FILE, about, xattrs, about.st_size), name)
    left = about.st_size
    with open(path, "rb", buffering=0) as file:
        while left and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            yield data
    if left:
        raise BadImage(f"{quoted(name)} got shorter while it was read")
    yield bytes(-about.st_size % BLOCK)
