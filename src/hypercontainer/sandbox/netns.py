"""The network that an engine made in a network namespace, as seen and joined from outside.

To be called inside the namespace (see `system.threads`).
"""

import fcntl
import os
import socket
import struct
from typing import NamedTuple

from ..errors import HyperError
from ..system import taps
from ..system.iproute import query, run

TAP_PREFIX = "hypertap"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
# RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400


class Interface(NamedTuple):
    """An interface of the namespace; `addresses` are in CIDR form, the
    permanent `neighbours` as "ADDRESS MAC"."""

    number: int
    name: str
    mac: str
    mtu: int
    up: bool
    addresses: tuple[str, ...]
    neighbours: tuple[str, ...] = ()


class Route(NamedTuple):
    """A route: `dest` is CIDR or `default`, `gateway` may be ""."""

    dest: str
    gateway: str
    device: str


def _only_loopback() -> bool:
    """Known without a command: the common case of a container without a network."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def interfaces() -> list[Interface]:
    """The interfaces of this namespace, but for loopback and our own taps."""
    if _only_loopback():
        return []
    found = []
    neighbours = query("neighbour", "show", "nud", "permanent")
    for link in query("-d", "address", "show"):
        name = str(link.get("ifname", ""))
        if link.get("link_type") != "ether" or name.startswith((TAP_PREFIX, taps.PREFIX)):
            continue
        addresses = tuple(
            f"{a['local']}/{a['prefixlen']}"
            for a in link.get("addr_info", [])
            if a.get("scope") != "link" and "local" in a
        )
        up = "UP" in link.get("flags", [])
        known = tuple(
            f"{n['dst']} {n['lladdr']}"
            for n in neighbours
            if n.get("dev") == name and "lladdr" in n
        )
        mtu = link.get("mtu", 1500)
        found.append(Interface(link["ifindex"], name, link["address"], mtu, up, addresses, known))
    return found


def routes() -> list[Route]:
    """The routes of this namespace's main table that its addresses do not imply.

    Those without a gateway come first, since the others may need them.
    """
    if _only_loopback():
        return []
    found = []
    for family in ("-4", "-6"):
        for route in query(family, "route", "show", "table", "main"):
            kind = route.get("type", "unicast")
            device = str(route.get("dev", ""))
            if route.get("protocol") == "kernel" or kind != "unicast" or not device:
                continue
            found.append(Route(route["dst"], str(route.get("gateway", "")), device))
    return sorted(found, key=lambda r: bool(r.gateway))


def join(interface: Interface) -> int:
    """Make a tap that gets what the interface gets and sends what it is given.

    Both ways are tc redirects. Returns the tap's descriptor; the tap ends with it.
    """
    tap = f"{TAP_PREFIX}{interface.number}"
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", tap.encode(), flags))
        run("ip", "link", "set", "dev", tap, "mtu", str(interface.mtu), "up")
        unjoin(interface.name)
        for source, target in ((interface.name, tap), (tap, interface.name)):
            run("tc", "qdisc", "add", "dev", source, "ingress")
            run(
                *("tc", "filter", "add", "dev", source, "parent", "ffff:", "protocol", "all"),
                *("u32", "match", "u8", "0", "0"),
                *("action", "mirred", "egress", "redirect", "dev", target),
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def resize(interface: Interface) -> None:
    """Give the tap of an interface its MTU."""
    tap = f"{TAP_PREFIX}{interface.number}"
    run("ip", "link", "set", "dev", tap, "mtu", str(interface.mtu))


def answer_at(number: int, address: str, prefix: int) -> None:
    """Give the tap of interface `number` an address of its own, out of the redirect's way."""
    tap = f"{TAP_PREFIX}{number}"
    run("ip", "address", "replace", f"{address}/{prefix}", "dev", tap)
    target = f"0x{socket.inet_aton(address).hex()}"
    for order, protocol, match in (
        ("1", "arp", ("u32", target, "0xffffffff", "at", "24")),
        ("2", "ip", ("ip", "dst", f"{address}/32")),
    ):
        run(
            *("tc", "filter", "replace", "dev", tap, "parent", "ffff:"),
            *("prio", order, "protocol", protocol, "u32", "match", *match, "flowid", "1:1"),
        )


def unjoin(*names: str) -> None:
    """Remove the redirects of interfaces; none is fine."""
    for name in names:
        try:
            run("tc", "qdisc", "del", "dev", name, "ingress")
        except HyperError:
            pass


def change_socket() -> socket.socket:
    """A netlink socket that becomes readable when this namespace's network changes."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    sock.bind((0, _GROUPS))
    sock.setblocking(False)
    return sock
