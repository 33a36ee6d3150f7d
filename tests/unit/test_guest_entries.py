"""Headers of files: both ends check them."""

import json
import tarfile

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.guest.entries import Entry, decode, encode
from hypercontainer.guest.protocol import ProtocolError
from hypercontainer.pods.untar import entry_of


def test_a_header_survives() -> None:
    entry = Entry("a/ü\udcff", "f", 0o4755, 1, 2, 3, -4, 5, xattrs={"user.x": b"\0\xff"})
    data = encode(entry)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert decode(data[4:]) == entry


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"path": "/etc/passwd", "type": "f"},
        {"path": "a/../../b", "type": "f"},
        {"path": "a//b", "type": "f"},
        {"path": "a\0", "type": "f"},
        {"path": "a" * 5000, "type": "f"},
        {"path": "a", "type": "x"},
        {"path": "a"},
        {"path": "a", "type": "f", "size": -1},
        {"path": "a", "type": "f", "size": "1"},
        {"path": "a", "type": "f", "mode": 1 << 20},
        {"path": "a", "type": "h", "target": "../x"},
        {"path": "a", "type": "h", "target": "/x"},
        {"path": "a", "type": "f", "xattrs": {"user.x": "!"}},
        {"path": "a", "type": "f", "xattrs": [1]},
        {"path": "a", "type": "f", "kind": "X"},
    ],
)
def test_what_a_guest_must_not_say(header: object) -> None:
    with pytest.raises(ProtocolError):
        decode(json.dumps(header).encode())


def test_members_of_archives() -> None:
    info = tarfile.TarInfo("./a//b/")
    info.mtime = 1.25
    info.pax_headers = {"SCHILY.xattr.user.x": "y", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    entry = entry_of(info)
    assert (entry.path, entry.seconds, entry.nanoseconds) == ("a/b", 1, 250000000)
    assert entry.xattrs == {"user.x": b"y"}
    for name in ("../a", "a/../b", "/../a"):
        with pytest.raises(BadRequest, match="leads out"):
            entry_of(tarfile.TarInfo(name))
