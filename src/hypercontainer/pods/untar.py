"""A tar archive as records for the guest."""

import asyncio
import posixpath
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import IO, cast

from ..errors import BadRequest
from ..guest.entries import END, Entry, encode

_XATTR = "SCHILY.xattr."
_KEPT_XATTRS = ("user.", "security.capability")
_BLOCK = 65536
_PATIENCE = 600.0


class _Incoming:
    """An asynchronous stream of bytes as a file that a thread reads."""

    def __init__(self, chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._data = b""
        self._ended = False

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""

    def read(self, size: int = -1) -> bytes:
        """At least one byte, and at most `size`, but at the end."""
        if not self._data and not self._ended:
            future = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            self._data = future.result(_PATIENCE)
            self._ended = not self._data
        if size < 0:
            size = len(self._data)
        taken, self._data = self._data[:size], self._data[size:]
        return taken


async def records_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The records of a tar archive, plain, gzip, bzip2 or xz, in pieces for the guest.

    Raises BadRequest for what is no archive, or has an entry that leads out of it.
    """
    loop = asyncio.get_running_loop()
    pieces = _pieces(cast(IO[bytes], _Incoming(chunks, loop)))
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    try:
        with tarfile.open(fileobj=file, mode="r|*") as tar:
            for info in tar:
                entry = entry_of(info)
                yield encode(entry)
                if entry.type == "f" and entry.size:
                    yield from _content(tar, info)
    except tarfile.TarError as error:
        raise BadRequest(f"the archive can't be read: {error}") from error
    except (EOFError, OSError, ValueError) as error:
        raise BadRequest(f"the archive is damaged: {error}") from error
    yield END


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    file = tar.extractfile(info)
    left = info.size
    while left:
        data = file.read(min(left, _BLOCK)) if file is not None else b""
        if not data:
            raise BadRequest(f"the archive ends in {info.name}")
        left -= len(data)
        yield data


def entry_of(info: tarfile.TarInfo) -> Entry:
    """The record of a member. Raises BadRequest for one that leads out of the archive."""
    mtime = float(info.mtime)
    seconds = int(mtime // 1)
    kind = _kind(info)
    return Entry(
        path=_inside(info.name),
        type=kind,
        mode=info.mode & 0o7777,
        uid=info.uid,
        gid=info.gid,
        size=info.size if kind == "f" else 0,
        seconds=seconds,
        nanoseconds=min(int((mtime - seconds) * 1e9), 10**9 - 1),
        target=_inside(info.linkname) if kind == "h" else info.linkname,
        major=info.devmajor,
        minor=info.devminor,
        xattrs={
            key.removeprefix(_XATTR): value.encode(errors="surrogateescape")
            for key, value in info.pax_headers.items()
            if key.startswith(_XATTR) and key.removeprefix(_XATTR).startswith(_KEPT_XATTRS)
        },
    )


def _kind(info: tarfile.TarInfo) -> str:
    for kind, holds in (
        ("f", info.isreg()),
        ("d", info.isdir()),
        ("l", info.issym()),
        ("h", info.islnk()),
        ("c", info.ischr()),
        ("b", info.isblk()),
        ("p", info.isfifo()),
    ):
        if holds:
            return kind
    raise BadRequest(f"the archive has {info.name!r} of an unknown type")


def _inside(name: str) -> str:
    path = posixpath.normpath("/" + name.lstrip("/")).lstrip("/")
    if ".." in name.split("/"):
        raise BadRequest(f"the archive has {name!r}, which leads out of it")
    return path
