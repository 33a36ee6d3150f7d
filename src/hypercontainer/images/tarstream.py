"""Reading tar archives from a stream of chunks, strictly and within bounds.

Formats: POSIX ustar and pax (IEEE 1003.1, `pax`), GNU tar's long names and base-256 numbers
(GNU tar manual, "Basic Tar Format"). What these leave open is read as Docker's tar reader does:
links, directories, devices and fifos have no data, whatever their size field says.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from .failures import BadImage, quoted

BLOCK = 512
_ZERO_BLOCK = bytes(BLOCK)
_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_META_LIMIT = 1 << 20  # bytes of one pax header or long name
_PATH_LIMIT = 4095
_XATTR = b"SCHILY.xattr."

FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
_HEADER_ONLY = frozenset((HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))


class Source(Protocol):
    """Bytes that come in order."""

    def take(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        ...

    def pieces(self, size: int) -> Iterator[bytes | memoryview]:
        """The next `size` bytes in pieces; ends early at the end."""
        ...

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; returns how many there were."""
        ...


class ChunkSource:
    """A source over an iterator of byte chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def _more(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk, self._at = chunk, 0
                return True
        return False

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[bytes | memoryview]:
        while size > 0:
            if self._at >= len(self._chunk) and not self._more():
                return
            piece = memoryview(self._chunk)[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> int:
        return sum(len(piece) for piece in self.pieces(size))


@dataclass(slots=True)
class Entry:
    """One member of an archive; `name` and `link` as they stand there, not cleaned."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[bytes, bytes]


def entries(source: Source, what: str) -> Iterator[Entry]:
    """The members of the archive `what` (named in errors) in order.

    Before the next one is asked for, exactly `entry.size` bytes of data must be taken from
    `source`; padding is handled here. Raises BadImage for what is damaged or not understood.
    """
    extended: dict[bytes, bytes] = {}
    while True:
        header = source.take(BLOCK)
        if not header or header == _ZERO_BLOCK:
            if extended:
                raise BadImage(f"{what} is damaged: it ends within an entry")
            return
        if len(header) < BLOCK:
            raise BadImage(f"{what} is truncated: it ends within a header")
        entry = _parse_header(header, what)
        if entry.kind in (b"x", b"g", b"L", b"K"):
            _read_meta(source, entry, extended, what)
            continue
        if extended:
            _apply(entry, extended, what)
            extended = {}
        if entry.kind in _HEADER_ONLY:
            entry.size = 0
        padding = -entry.size % BLOCK
        yield entry
        if padding and source.skip(padding) < padding:
            raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")


def _parse_header(header: bytes, what: str) -> Entry:
    fields = _FIELDS.unpack(header)
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic = fields[:10]
    major, minor, prefix = fields[12:15]
    if _number(checksum, what) != sum(header) - sum(checksum) + 8 * 32:
        signed = sum(b - 256 if b > 127 else b for b in header[:148] + b" " * 8 + header[156:])
        if _number(checksum, what) != signed:
            raise BadImage(f"{what} is damaged: a header's checksum is wrong")
    name = name.partition(b"\0")[0]
    if magic == b"ustar\x0000" and prefix[:1] != b"\0":
        name = prefix.partition(b"\0")[0] + b"/" + name
    if kind == b"\0":
        kind = DIRECTORY if name.endswith(b"/") else FILE
    elif kind == b"7":
        kind = FILE
    device = kind in (CHAR, BLOCK_DEVICE)
    entry = Entry(
        name=name,
        kind=kind,
        mode=_number(mode, what) & 0o7777,
        uid=_number(uid, what),
        gid=_number(gid, what),
        size=_number(size, what),
        mtime=_number(mtime, what),
        link=link.partition(b"\0")[0],
        major=_number(major, what) if device else 0,
        minor=_number(minor, what) if device else 0,
        xattrs={},
    )
    if entry.size < 0:
        raise BadImage(f"{what} is damaged: {quoted(name)} has a negative size")
    return entry


def _number(field: bytes, what: str) -> int:
    """Octal digits, or base-256 when the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        return int(digits, 8)
    except ValueError:
        raise BadImage(f"{what} is damaged: a header holds a bad number") from None


def _read_meta(source: Source, entry: Entry, extended: dict[bytes, bytes], what: str) -> None:
    """A pax header or a GNU long name: adds what it says of the next entry to `extended`."""
    if entry.size > _META_LIMIT:
        raise BadImage(f"{what} is refused: an extended header of {entry.size} bytes")
    data = source.take(entry.size)
    padding = -entry.size % BLOCK
    if len(data) < entry.size or source.skip(padding) < padding:
        raise BadImage(f"{what} is truncated: it ends within an extended header")
    if entry.kind == b"L":
        extended[b"path"] = data.partition(b"\0")[0]
    elif entry.kind == b"K":
        extended[b"linkpath"] = data.partition(b"\0")[0]
    elif entry.kind == b"x":
        extended.update(_pax_records(data, what))
    else:
        for key in _pax_records(data, what):
            if key in (b"path", b"linkpath", b"size") or key.startswith((_XATTR, b"GNU.sparse")):
                raise BadImage(f"{what} is refused: a global header sets {quoted(key)}")


def _pax_records(data: bytes, what: str) -> dict[bytes, bytes]:
    records = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        length = data[at:space]
        end = at + int(length) if space > 0 and length.isdigit() else 0
        key, equals, value = data[space + 1 : max(end - 1, 0)].partition(b"=")
        if end <= space or end > len(data) or data[end - 1] != 0x0A or not equals or not key:
            raise BadImage(f"{what} is damaged: a bad extended header")
        records[key] = value
        at = end
    return records


def _apply(entry: Entry, extended: dict[bytes, bytes], what: str) -> None:
    if any(key.startswith(b"GNU.sparse") for key in extended):
        name = extended.get(b"GNU.sparse.name", entry.name)
        raise BadImage(
            f"{what} is refused: {quoted(name)} is a sparse entry, which layers can't hold"
        )
    try:
        for key, value in extended.items():
            if key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"size":
                entry.size = _decimal(value)
            elif key == b"uid":
                entry.uid = _decimal(value)
            elif key == b"gid":
                entry.gid = _decimal(value)
            elif key == b"mtime":
                entry.mtime = int(float(value))
            elif key.startswith(_XATTR):
                entry.xattrs[key[len(_XATTR) :]] = value
    except (ValueError, OverflowError):
        raise BadImage(
            f"{what} is damaged: a bad extended header of {quoted(entry.name)}"
        ) from None
    if b"\0" in entry.name or b"\0" in entry.link:
        raise BadImage(f"{what} is refused: a name with a zero byte: {quoted(entry.name)}")


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ValueError(value)
    return int(value)


def clean_name(name: bytes, what: str) -> bytes:
    """A member's name as a path relative to the root, `b""` for the root itself.

    Raises BadImage for absolute names and for those that leave the root.
    """
    if name.startswith(b"/"):
        raise BadImage(f"{what} is refused: the name {quoted(name)} is absolute")
    return _clean(name, name, what)


def clean_link(link: bytes, name: bytes, what: str) -> bytes:
    """The target of the hard link `name`, a path from the root; a leading slash is the root."""
    return _clean(link, name, what)


def _clean(path: bytes, name: bytes, what: str) -> bytes:
    if len(path) > _PATH_LIMIT:
        raise BadImage(f"{what} is refused: a name longer than {_PATH_LIMIT} bytes: {quoted(name)}")
    if len(path) < 256 and not path.startswith(b".") and b"//" not in path and b"/." not in path:
        return path.strip(b"/")
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise BadImage(f"{what} is refused: {quoted(name)} leads out of the image")
            parts.pop()
            continue
        if len(part) > 255:
            raise BadImage(f"{what} is refused: a name part longer than 255 bytes: {quoted(name)}")
        parts.append(part)
    return b"/".join(parts)
