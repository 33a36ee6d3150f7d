"""Records of files, as hyperstart reads and writes them (docs/guest-protocol.md, "Files").

A record is a 4-byte big-endian length, so many bytes of JSON (the header) and, for a file, the
`size` bytes of its content. A length of 0 is the end.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .protocol import ProtocolError

MAX_HEADER = 1 << 20
MAX_PATH = 4096
MAX_SIZE = 1 << 50
END = bytes(4)
TYPES = "fdlhcbps"
WHITEOUT = "w"
_TIME = 1 << 40


@dataclass(frozen=True, slots=True)
class Entry:
    """A file. `path` is relative, `""` is where the archive begins; times are in seconds and ns.

    `type` is f, d, l, h (a hard link), c, b, p, s (a socket), or w: the image's file is deleted.
    `opaque`: the image's directory is hidden. `kind` is A, C or D in a list of changes, where
    `same` tells that a directory's mode and owner are those of the image.
    """

    path: str
    type: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    seconds: int = 0
    nanoseconds: int = 0
    target: str = ""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    opaque: bool = False
    kind: str = ""
    same: bool = False


def decode(data: bytes) -> Entry:
    """A header that the guest sent, every value checked. Raises ProtocolError."""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"header of a file is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise ProtocolError("header of a file is not an object")
    kind = _text(header, "type")
    if len(kind) != 1 or kind not in TYPES + WHITEOUT:
        raise ProtocolError(f"a file of the type {kind!r}")
    target = _text(header, "target")
    entry = Entry(
        path=_path(_text(header, "path")),
        type=kind,
        mode=_number(header, "mode", 0, 0o7777),
        uid=_number(header, "uid", 0, (1 << 32) - 1),
        gid=_number(header, "gid", 0, (1 << 32) - 1),
        size=_number(header, "size", 0, MAX_SIZE),
        seconds=_number(header, "sec", -_TIME, _TIME),
        nanoseconds=_number(header, "nsec", 0, 10**9 - 1),
        target=_path(target) if kind == "h" else target,
        major=_number(header, "major", 0, (1 << 32) - 1),
        minor=_number(header, "minor", 0, (1 << 32) - 1),
        xattrs=_xattrs(header),
        opaque=header.get("opaque") is True,
        kind=_text(header, "kind"),
        same=header.get("same") is True,
    )
    if entry.kind not in ("", "A", "C", "D"):
        raise ProtocolError(f"a change of the kind {entry.kind!r}")
    return entry


def encode(entry: Entry) -> bytes:
    """A record up to its content. Raises ValueError when the header is over 1 MiB."""
    header: dict[str, Any] = {
        "path": entry.path,
        "type": entry.type,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "sec": entry.seconds,
        "nsec": entry.nanoseconds,
    }
    if entry.type == "f":
        header["size"] = entry.size
    if entry.type in "lh":
        header["target"] = entry.target
    if entry.type in "cb":
        header |= {"major": entry.major, "minor": entry.minor}
    if entry.xattrs:
        header["xattrs"] = {
            name: base64.b64encode(value).decode() for name, value in entry.xattrs.items()
        }
    data = json.dumps(header, separators=(",", ":")).encode()
    if len(data) > MAX_HEADER:
        raise ValueError(f"the header of {entry.path} has {len(data)} bytes")
    return len(data).to_bytes(4, "big") + data


def _text(header: dict[str, Any], key: str) -> str:
    value = header.get(key, "")
    if not isinstance(value, str) or "\0" in value or len(value) > MAX_PATH:
        raise ProtocolError(f"{key} of a file is no text of at most {MAX_PATH} characters")
    return value


def _path(path: str) -> str:
    """A relative path that can't lead out of where it begins."""
    if path and any(part in ("", ".", "..") for part in path.split("/")):
        raise ProtocolError(f"a file called {path!r}")
    return path


def _number(header: dict[str, Any], key: str, least: int, most: int) -> int:
    value = header.get(key, 0)
    if not isinstance(value, int) or not least <= value <= most:
        raise ProtocolError(f"{key} of a file is {value!r}")
    return value


def _xattrs(header: dict[str, Any]) -> dict[str, bytes]:
    values = header.get("xattrs", {})
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise ProtocolError("extended attributes of a file are no object of texts")
    try:
        return {
            name: base64.b64decode(value, validate=True)
            for name, value in values.items()
            if name and "\0" not in name and "=" not in name
        }
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"extended attributes of a file: {error}") from error
