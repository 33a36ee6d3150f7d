"""Writing tar headers: one plain form for every entry, ustar with pax where ustar is too small."""

from .tarstream import BLOCK, DIRECTORY, Entry

_TIME_LIMIT = (1 << 32) - 1  # what squashfs can hold


def header(entry: Entry, name: bytes, link: bytes = b"") -> bytes:
    """The header blocks of `entry` under the cleaned `name`; data and padding follow for files."""
    records = b"".join(
        _record(b"SCHILY.xattr." + key, value) for key, value in sorted(entry.xattrs.items())
    )
    if entry.kind == DIRECTORY:
        name += b"/"
    if len(name) > 100:
        records += _record(b"path", name)
    if len(link) > 100:
        records += _record(b"linkpath", link)
    uid, gid, size = entry.uid, entry.gid, entry.size
    if uid > 0o7777777:
        records, uid = records + _record(b"uid", b"%d" % uid), 0
    if gid > 0o7777777:
        records, gid = records + _record(b"gid", b"%d" % gid), 0
    if size > 0o77777777777:
        records, size = records + _record(b"size", b"%d" % size), 0
    mtime = min(max(entry.mtime, 0), _TIME_LIMIT)
    block = _block(
        entry.kind, name, link, entry.mode, uid, gid, size, mtime, entry.major, entry.minor
    )
    if not records:
        return block
    padding = bytes(-len(records) % BLOCK)
    return _block(b"x", b"pax", b"", 0o644, 0, 0, len(records), 0, 0, 0) + records + padding + block


def _block(
    kind: bytes,
    name: bytes,
    link: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    major: int,
    minor: int,
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name[:100].ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
    )
    tail = b"%b%busta%b00%b%07o\0%07o\0%b" % (
        kind,
        link[:100].ljust(100, b"\0"),
        b"r\0",
        bytes(64),
        major,
        minor,
        bytes(167),
    )
    checksum = sum(head) + sum(tail) + 8 * 32
    return b"%b%06o\0 %b" % (head, checksum, tail)


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record; its length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %b=%b\n" % (length, key, value)
