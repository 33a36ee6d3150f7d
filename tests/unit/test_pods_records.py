"""What a guest says of files, as tar archives; a guest may say anything."""

import asyncio
import io
import struct
import tarfile
from collections.abc import Awaitable, Callable

import pytest

from hypercontainer.errors import HyperError, VMError
from hypercontainer.guest.entries import END, Entry, encode
from hypercontainer.guest.protocol import ProtocolError
from hypercontainer.pods.filesystem import changes_of
from hypercontainer.pods.records import RecordReader, list_of, tar_end, tar_of


def frames(data: bytes, which: int = 1, size: int = 100) -> bytes:
    """The output of a process, in Docker's frames of some bytes each."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(struct.pack(">BxxxI", which, len(part)) + part for part in parts)


def with_reader(
    data: bytes, use: Callable[[RecordReader], Awaitable[object]], *, end: bool = True
) -> object:
    """What `use` makes of a process' output."""

    async def work() -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        if end:
            reader.feed_eof()
        return await use(RecordReader(reader, 0.2))

    return asyncio.run(work())


async def tar(records: RecordReader) -> bytes:
    """A whole archive, called `base`."""
    return b"".join([piece async for piece in tar_of(records, "base")]) + tar_end()


def test_entries_become_members() -> None:
    long = "d/" * 60 + "ü"
    data = (
        encode(Entry("", "d", 0o1777, 1, 2, seconds=5, nanoseconds=500))
        + encode(Entry("f", "f", 0o4755, size=3, xattrs={"user.x": b"\0\xff"}))
        + b"abc"
        + encode(Entry("h", "h", target="f"))
        + encode(Entry("l", "l", target="/etc/passwd"))
        + encode(Entry(long, "f", size=600))
        + bytes(600)
        + encode(Entry("s", "s"))
        + encode(Entry("b", "b", major=8, minor=1))
        + END
    )
    archive = with_reader(frames(data), tar)
    assert isinstance(archive, bytes)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = {info.name: info for info in opened}
        assert set(found) == {"base", "base/f", "base/h", "base/l", f"base/{long}", "base/b"}
        assert found["base/h"].linkname == "base/f" and found["base/l"].linkname == "/etc/passwd"
        file = opened.extractfile("base/f")
        assert file is not None and file.read() == b"abc"
        assert (found["base"].mode, found["base"].uid, found["base"].gid) == (0o1777, 1, 2)


def test_whiteouts_become_markers() -> None:
    data = encode(Entry("a/gone", "s")).replace(b'"type":"s"', b'"type":"w"')
    data += encode(Entry("d", "d")).replace(b'"nsec":0', b'"nsec":0,"opaque":true')
    data = b"".join(_resized(part) for part in _split(data)) + END
    archive = with_reader(frames(data), tar)
    assert isinstance(archive, bytes)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert opened.getnames() == ["base/a/.wh.gone", "base/d", "base/d/.wh..wh..opq"]


def _split(data: bytes) -> list[bytes]:
    first = data.index(b"}") + 1
    return [data[4:first], data[first + 4 :]]


def _resized(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + header


@pytest.mark.parametrize(
    "header",
    [
        b'{"path":"../x","type":"f"}',
        b'{"path":"/x","type":"f"}',
        b'{"path":"x","type":"h","target":"../../etc/passwd"}',
        b'{"path":"x","type":"f","size":-5}',
        b"[" * 5000,
        b"\xff\xfe",
    ],
)
def test_a_bad_header_is_a_broken_protocol(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        with_reader(frames(_resized(header)), tar)


def test_lengths_are_bounded() -> None:
    with pytest.raises(ProtocolError, match="header of a file has"):
        with_reader(frames(b"\xff\xff\xff\xff"), tar)
    with pytest.raises(ProtocolError, match="a frame of"):
        with_reader(struct.pack(">BxxxI", 1, 1 << 31), tar)
    many = b"".join(encode(Entry(str(n), "f")) for n in range(5)) + END
    with pytest.raises(HyperError, match="more than 4 changed"):
        with_reader(frames(many), lambda records: list_of(records, 4))
    with pytest.raises(VMError, match="sent nothing"):
        with_reader(frames(encode(Entry("f", "f", size=10))), tar, end=False)


def test_what_fails_says_why() -> None:
    async def use(records: RecordReader) -> object:
        await records.entry()
        await records.finish()
        return records.error

    said = with_reader(frames(b"no \x1b[1msuch file\nmore", 2), use)
    assert said == "no [1msuch file"


def test_changes_are_those_that_matter() -> None:
    entries = [
        Entry("etc", "d", kind="C", same=True),
        Entry("etc/hosts", "f", kind="A"),
        Entry("var", "d", kind="C", same=True),
        Entry("var/x", "f", kind="D"),
        Entry("tmp", "d", kind="C", same=False),
        Entry("dev", "d", kind="A"),
        Entry("dev/x", "f", kind="A"),
    ]
    found = changes_of(entries, frozenset({"/etc/hosts", "/dev"}))
    assert [(c.kind, c.path) for c in found] == [("C", "/tmp"), ("C", "/var"), ("D", "/var/x")]
