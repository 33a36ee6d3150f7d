"""As much of DNS (RFC 1035) as answering questions for names of containers takes.

Each sandbox has it in memory, so it is no library: those cost ten times as much.
"""

import ipaddress
import struct
from typing import NamedTuple

A, PTR, AAAA, ANY = 1, 12, 28, 255
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
_IN = 1
_TTL = 30
_HEADER = struct.Struct("!HHHHHH")
_RESPONSE, _RECURSION_DESIRED, _RECURSION_AVAILABLE, _AUTHORITATIVE = 0x8000, 0x0100, 0x0080, 0x0400
_MAX_RECORDS = 24


class Question(NamedTuple):
    """A question: `name` in lower case without the last dot; `raw` as it came."""

    id: int
    flags: int
    name: str
    kind: int
    raw: bytes


def parse(query: bytes) -> Question | None:
    """The question of a query; None for what is no query of one question for the Internet."""
    if len(query) < _HEADER.size + 5:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & _RESPONSE or (flags >> 11) & 15 or questions != 1:
        return None
    labels, at = [], _HEADER.size
    while at < len(query) and query[at]:
        size = query[at]
        if size > 63 or at + size + 1 >= len(query):
            return None
        labels.append(query[at + 1 : at + 1 + size])
        at += size + 1
    end = at + 5
    if end > len(query) or end - _HEADER.size > 259:
        return None
    kind, family = struct.unpack_from("!HH", query, at + 1)
    if family != _IN:
        return None
    name = b".".join(labels).decode("ascii", "replace").lower()
    return Question(number, flags, name, kind, query[_HEADER.size : end])


def answer(question: Question, records: list[tuple[int, bytes]], code: int = NOERROR) -> bytes:
    """A response with records (type and data) for the name asked."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | (question.flags & _RECURSION_DESIRED) | code
    if code in (NOERROR, NXDOMAIN):
        flags |= _AUTHORITATIVE
    records = records[:_MAX_RECORDS]
    body = b"".join(
        struct.pack("!HHHIH", 0xC00C, kind, _IN, _TTL, len(data)) + data for kind, data in records
    )
    return _HEADER.pack(question.id, flags, 1, len(records), 0, 0) + question.raw + body


def address_records(kind: int, addresses: list[str]) -> list[tuple[int, bytes]]:
    """Records of type A, AAAA or both (ANY)."""
    found = []
    for text in addresses:
        address = ipaddress.ip_address(text)
        own = A if address.version == 4 else AAAA
        if kind in (own, ANY):
            found.append((own, address.packed))
    return found


def pointer_record(name: str) -> tuple[int, bytes]:
    """A record of type PTR."""
    labels = [label.encode()[:63] for label in name.split(".") if label]
    return PTR, b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def reverse_address(name: str) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa asks about; "" for another."""
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if name.endswith(".ip6.arpa") and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return str(ipaddress.IPv6Address(int(digits, 16)))
    except ValueError:
        pass
    return ""
