"""Files of a container as they come from the guest, and as tar archives."""

import asyncio
import posixpath
import struct
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import PurePosixPath

from ..errors import HyperError, VMError
from ..guest.entries import MAX_HEADER, WHITEOUT, Entry, decode
from ..guest.protocol import ProtocolError

_FRAME = struct.Struct(">BxxxI")
_STDOUT = 1
_MAX_FRAME = 1 << 20
_MAX_ERROR = 4096
_XATTR = "SCHILY.xattr."
OPAQUE_MARK = ".wh..wh..opq"
WHITEOUT_MARK = ".wh."
_TYPES = {
    "f": tarfile.REGTYPE,
    "d": tarfile.DIRTYPE,
    "l": tarfile.SYMTYPE,
    "h": tarfile.LNKTYPE,
    "c": tarfile.CHRTYPE,
    "b": tarfile.BLKTYPE,
    "p": tarfile.FIFOTYPE,
}


class RecordReader:
    """The records in the output of an archive process, and what that says of its failure."""

    def __init__(self, reader: asyncio.StreamReader, stall: float | None) -> None:
        """`stall` is how many seconds the guest may say nothing, None: as long as it is fed."""
        self._reader = reader
        self._stall = stall
        self._data = bytearray()
        self._errors = bytearray()
        self._ended = False

    @property
    def error(self) -> str:
        """The first line of the process' stderr."""
        text = self._errors.decode(errors="replace").strip()
        return "".join(c for c in text.partition("\n")[0] if c.isprintable())

    async def _more(self) -> None:
        """Take a frame. Raises VMError when the guest says nothing for too long."""
        try:
            async with asyncio.timeout(self._stall):
                header = await self._reader.readexactly(_FRAME.size)
                which, size = _FRAME.unpack(header)
                if size > _MAX_FRAME:
                    raise ProtocolError(f"a frame of {size} bytes")
                data = await self._reader.readexactly(size)
        except asyncio.IncompleteReadError:
            self._ended = True
            return
        except TimeoutError:
            raise VMError(f"the guest sent nothing for {self._stall or 0:.0f} s") from None
        if which == _STDOUT:
            self._data += data
        elif len(self._errors) < _MAX_ERROR:
            self._errors += data

    async def _exactly(self, size: int) -> bytes | None:
        """So many bytes; None when there are fewer."""
        while len(self._data) < size:
            if self._ended:
                return None
            await self._more()
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    async def entry(self) -> Entry | None:
        """The next header, None at the end of the archive or of the process' output.

        Raises ProtocolError.
        """
        prefix = await self._exactly(4)
        size = int.from_bytes(prefix or b"", "big")
        if prefix is None or size == 0:
            return None
        if size > MAX_HEADER:
            raise ProtocolError(f"the header of a file has {size} bytes")
        data = await self._exactly(size)
        return decode(data) if data is not None else None

    async def content(self, size: int) -> AsyncIterator[bytes]:
        """The next `size` bytes in pieces; fewer when the process has failed."""
        while size > 0:
            if not self._data:
                if self._ended:
                    return
                await self._more()
                continue
            piece = bytes(self._data[:size])
            del self._data[: len(piece)]
            size -= len(piece)
            yield piece

    async def finish(self) -> None:
        """Read what is left, so that the process can end."""
        while not self._ended:
            self._data.clear()
            await self._more()


def tar_header(entry: Entry, name: str) -> bytes:
    """The header of an entry in a tar archive (pax), under another name."""
    info = tarfile.TarInfo(name)
    extended: dict[str, str] = {}
    info.type = _TYPES[entry.type]
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.size = entry.size if entry.type == "f" else 0
    info.mtime = entry.seconds
    if entry.nanoseconds:
        extended["mtime"] = f"{entry.seconds + entry.nanoseconds / 1e9:.9f}"
    info.linkname = entry.target
    info.devmajor, info.devminor = entry.major, entry.minor
    for key, value in entry.xattrs.items():
        extended[_XATTR + key] = value.decode(errors="surrogateescape")
    info.pax_headers = extended
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _marker(path: str) -> bytes:
    info = tarfile.TarInfo(path)
    info.mode = 0
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


async def tar_of(
    records: RecordReader,
    base: str,
    *,
    skip: Callable[[str], bool] = lambda path: False,
) -> AsyncIterator[bytes]:
    """A tar archive of records, in which the first one is called `base`.

    With an empty base it is left out, and what is below keeps its own path. Whiteouts and
    opaque directories become the marker files of OCI layers; entries for whose path `skip` is
    true are left out. Ends without the archive's end when the process has failed.
    Raises ProtocolError.
    """
    while (entry := await records.entry()) is not None:
        name = _joined(base, entry.path)
        if not name or entry.type == "s" or skip(entry.path):
            async for _ in records.content(entry.size):
                pass
            continue
        if entry.type == WHITEOUT:
            path = PurePosixPath(name)
            yield _marker(str(path.with_name(WHITEOUT_MARK + path.name)))
            continue
        if entry.type == "h":
            yield tar_header(replace(entry, target=_joined(base, entry.target)), name)
            continue
        yield tar_header(entry, name)
        if entry.opaque:
            yield _marker(posixpath.join(name, OPAQUE_MARK))
        left = entry.size
        async for piece in records.content(entry.size):
            left -= len(piece)
            yield piece
        if left:
            return
        if padding := -entry.size % tarfile.BLOCKSIZE:
            yield bytes(padding)


def _joined(base: str, path: str) -> str:
    return f"{base}/{path}" if base and path else base or path


def tar_end() -> bytes:
    """The end of a tar archive."""
    return bytes(2 * tarfile.BLOCKSIZE)


async def list_of(records: RecordReader, most: int) -> list[Entry]:
    """All headers of records without content. Raises HyperError when there are over `most`."""
    found: list[Entry] = []
    while (entry := await records.entry()) is not None:
        if len(found) == most:
            raise HyperError(f"the container has more than {most} changed files")
        found.append(entry)
    return found
