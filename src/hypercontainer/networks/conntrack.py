"""Flows that the kernel's connection tracking still leads to an address that was let go.

A client that keeps sending UDP from one port keeps its flow alive, and with it the
translation to a container that is gone. The messages are those of nfnetlink
(linux/netfilter/nfnetlink_conntrack.h).
"""

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

_NETLINK_NETFILTER = 12
_GET, _DELETE = 0x0101, 0x0102
_REQUEST, _ACK, _DUMP = 0x01, 0x04, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCES = (1, 3)  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_PROTO_NUM = 1
_TYPE = 0x3FFF
_BOUND = 5.0


def forget_udp(addresses: list[str]) -> None:
    """Forget the UDP flows that end at addresses. Raises OSError where that can't be done."""
    wanted = {ipaddress.ip_address(address).packed for address in addresses}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.settimeout(_BOUND)
        for family in {socket.AF_INET if len(a) == 4 else socket.AF_INET6 for a in wanted}:
            for original in [t for t, reply in _flows(sock, family) if _is_of(reply, wanted)]:
                padded = original + bytes(-len(original) % 4)
                attribute = _ATTRIBUTE.pack(4 + len(original), _TUPLE_ORIG | 0x8000) + padded
                _send(sock, _DELETE, _REQUEST | _ACK, family, attribute)
                # It may have ended by itself.
                with contextlib.suppress(FileNotFoundError):
                    list(_receive(sock))


def _send(sock: socket.socket, kind: int, flags: int, family: int, payload: bytes = b"") -> None:
    body = _GENERIC.pack(family, 0, 0) + payload
    sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)


def _receive(sock: socket.socket) -> Iterator[bytes]:
    """The bodies of the messages of an answer. Raises OSError for an error of the kernel."""
    while True:
        data = sock.recv(1 << 18)
        while len(data) >= _HEADER.size:
            size, kind, *_ = _HEADER.unpack_from(data)
            body, data = data[_HEADER.size : size], data[(size + 3) & ~3 :]
            if kind == _DONE:
                return
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", body)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return
            yield body


def _flows(sock: socket.socket, family: int) -> list[tuple[bytes, bytes]]:
    """The original and the reply tuple of each flow."""
    _send(sock, _GET, _REQUEST | _DUMP, family)
    found = []
    for body in _receive(sock):
        parts = dict(_attributes(body[_GENERIC.size :]))
        found.append((parts.get(_TUPLE_ORIG, b""), parts.get(_TUPLE_REPLY, b"")))
    return found


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < 4:
            return
        yield kind & _TYPE, data[4:size]
        data = data[(size + 3) & ~3 :]


def _is_of(reply: bytes, wanted: set[bytes]) -> bool:
    """Whether a flow is UDP and answered from one of the addresses."""
    parts = dict(_attributes(reply))
    protocol = dict(_attributes(parts.get(_TUPLE_PROTO, b""))).get(_PROTO_NUM)
    sources = dict(_attributes(parts.get(_TUPLE_IP, b"")))
    return protocol == bytes([socket.IPPROTO_UDP]) and any(
        sources.get(s) in wanted for s in _SOURCES
    )
