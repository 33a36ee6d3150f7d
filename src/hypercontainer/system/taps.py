"""Taps: interfaces of the host whose packets a process reads and writes."""

import fcntl
import os
import secrets
import struct

from ..errors import HyperError
from . import iproute
from .threads import in_network_namespace

PREFIX = "hyt-"
_TUNSETIFF, _TUNGETIFF, _TUNGETDEVNETNS = 0x400454CA, 0x800454D2, 0x54E3
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def new_tap(*, header: bool = True) -> tuple[int, str]:
    """A tap that is down and nowhere attached: its descriptor, with which it ends, and its name.

    With `header` there is one of virtio before each packet. Raises HyperError.
    """
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HyperError(f"open /dev/net/tun: {error.strerror}") from error
    name = f"{PREFIX}{secrets.token_hex(5)}"
    try:
        flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if header else 0)
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        os.close(tap)
        raise HyperError(f"make a tap: {error.strerror}") from error
    return tap, name


def take_place(interface: str, home: int, tap: int) -> None:
    """Let what comes from an interface come from the tap, and what goes to the tap go to it.

    It is in the network namespace of the descriptor `home`, and comes to the tap's. The tap stays
    where its network has put it: in a bridge, or beside an engine's interface, with the rules that
    name it. Raises HyperError, OSError.
    """
    name = fcntl.ioctl(tap, _TUNGETIFF, bytes(40))[:16].rstrip(b"\0").decode()
    namespace = fcntl.ioctl(tap, _TUNGETDEVNETNS)
    try:
        if os.fstat(namespace).st_ino != os.fstat(home).st_ino:
            move = ("link", "set", "dev", interface, "netns", f"/proc/{os.getpid()}/fd/{namespace}")
            in_network_namespace(home, lambda: iproute.run("ip", *move))
        in_network_namespace(namespace, lambda: _redirect(interface, name))
    finally:
        os.close(namespace)


def _redirect(interface: str, tap: str) -> None:
    (link,) = iproute.query("link", "show", "dev", tap)
    iproute.run("ip", "link", "set", "dev", interface, "mtu", str(link["mtu"]), "up")
    everything = ("protocol", "all", "u32", "match", "u8", "0", "0", "action", "mirred")
    iproute.run("tc", "qdisc", "add", "dev", interface, "ingress")
    iproute.run(
        *("tc", "filter", "add", "dev", interface, "parent", "ffff:"),
        *(*everything, "ingress", "redirect", "dev", tap),
    )
    iproute.run("tc", "qdisc", "replace", "dev", tap, "root", "handle", "1:", "htb")
    iproute.run(
        *("tc", "filter", "add", "dev", tap, "parent", "1:"),
        *(*everything, "egress", "redirect", "dev", interface),
    )
