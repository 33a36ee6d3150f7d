"""How the values of hyperd's configuration are read. Each raises BadRequest."""

import ipaddress
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import BadRequest, NotSupported
from ..networks import Subnet, make_subnet
from ..pods.values import parse_size

# The value of `host` for fd://: listeners are what a service manager passes.
ACTIVATION = ("fd://", 0)
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "none")
_HOST = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[^:/\[\]]+):(\d{1,5})", re.ASCII)


def absolute_path(value: str) -> Path:
    """An absolute path."""
    if not value.startswith("/"):
        raise BadRequest(f"{value!r} is not an absolute path")
    return Path(value)


def path_text(value: str) -> str:
    """An absolute path, as text."""
    return str(absolute_path(value))


def existing_file(value: str) -> str:
    """The path of a file that is there."""
    path = absolute_path(value)
    if not path.is_file():
        raise BadRequest(f"there is no file {value}")
    return value


def boolean(value: str) -> bool:
    """true, yes, on, 1, or false, no, off, 0, none."""
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise BadRequest(f"{value!r} is neither true nor false")


def size(value: str) -> int:
    """Bytes of 10gb, 512m or the like."""
    try:
        size = parse_size(value, "")
    except BadRequest:
        raise BadRequest(f"{value!r} is not a size such as 10gb") from None
    if not 64 << 20 <= size <= 16 << 40:
        raise BadRequest(f"{value!r} is not between 64mb and 16tb")
    return size


def seconds(value: str) -> float:
    """A number of seconds."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise BadRequest(f"{value!r} is not a number of seconds from 1 to 3600")
    return seconds


def words(value: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


def parse_host(value: str) -> tuple[str, int]:
    """`tcp://ADDRESS:PORT`, or `fd://` for the sockets that are passed. Raises BadRequest."""
    if value == "fd://":
        return ACTIVATION
    match = _HOST.fullmatch(value)
    if not match or not 0 <= int(match[2]) <= 65535:
        raise BadRequest(f"{value!r} is not of the form tcp://ADDRESS:PORT")
    return match[1].strip("[]"), int(match[2])


def one_of(*allowed: str, unsupported: Iterable[str] = ()) -> Callable[[str], str]:
    """A reader of one of some words; those of `unsupported` are known and refused."""

    def read(value: str) -> str:
        word = value.lower()
        if word in unsupported:
            raise NotSupported(f"{value} is not supported yet: use {allowed[0]}")
        if word not in allowed:
            raise BadRequest(f"{value!r} is none of {', '.join(allowed)}")
        return word

    return read


def bridge_name(value: str) -> str:
    """The name of an interface, or none."""
    if (
        len(value) > 15
        or not value.isascii()
        or any(c in "/:\"' \t" for c in value)
        or value[0] == "."
    ):
        raise BadRequest(f"{value!r} is not the name of a bridge: up to 15 letters, digits, - or _")
    return value


def subnets(value: str) -> tuple[Subnet, ...]:
    """CIDR forms, of which one with an address of a host names the bridge's own address."""
    found = []
    for text in words(value):
        try:
            interface = ipaddress.ip_interface(text)
        except ValueError:
            raise BadRequest(f"{text!r} is not a subnet such as 192.168.123.0/24") from None
        own = interface.ip != interface.network.network_address
        found.append(make_subnet(str(interface.network), str(interface.ip) if own else ""))
    versions = [subnet.version for subnet in found]
    if 4 not in versions or len(versions) != len(set(versions)):
        raise BadRequest(f"{value!r} is not one IPv4 subnet, and at most one of IPv6 after a comma")
    return tuple(found)


def mtu(value: str) -> int:
    """Bytes of a frame."""
    if not value.isascii() or not value.isdigit() or not 576 <= int(value) <= 65535:
        raise BadRequest(f"{value!r} is not a number of bytes from 576 to 65535")
    return int(value)


def only(*harmless: str) -> Callable[[str], str]:
    """A key of a later version: its default is taken, anything else refused."""

    def read(value: str) -> str:
        if value.lower() not in harmless:
            raise NotSupported(f"{value} is not supported yet: remove the line")
        return value

    return read


def anything(value: str) -> str:
    """A text."""
    return value
