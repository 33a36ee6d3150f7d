"""Taps: interfaces of the host whose packets a process reads and writes."""

import fcntl
import os
import secrets
import struct

from ..errors import HyperError

PREFIX = "hyt-"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def new_tap() -> tuple[int, str]:
    """A tap that is down and nowhere attached: its descriptor, with which it ends, and its name.

    Raises HyperError.
    """
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HyperError(f"open /dev/net/tun: {error.strerror}") from error
    name = f"{PREFIX}{secrets.token_hex(5)}"
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        os.close(tap)
        raise HyperError(f"make a tap: {error.strerror}") from error
    return tap, name
