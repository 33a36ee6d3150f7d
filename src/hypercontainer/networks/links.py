"""Bridges and taps of the host, by iproute2 and the kernel's ioctls.

A bridge is made once in the life of a network, so iproute2's 3 ms don't count;
a tap is made at each start of a pod, by ioctls that take none.
"""

import fcntl
import os
import socket
import struct
from pathlib import Path

from ..errors import Conflict, HyperError
from ..system.iproute import query, run
from ..system.taps import new_tap
from .model import Network

_SIOCGIFINDEX, _SIOCSIFFLAGS, _SIOCSIFMTU, _SIOCBRADDIF = 0x8933, 0x8914, 0x8922, 0x89A2
_IFF_UP = 0x1
_SYSCTL = Path("/proc/sys/net")


def host_subnets(own: set[str]) -> list[tuple[str, str]]:
    """The subnets that this host has routes to, but for the bridges `own`, each with its device."""
    found = []
    for family in ("-4", "-6"):
        for route in query(family, "route", "show", "table", "main"):
            device = str(route.get("dev", ""))
            destination = str(route.get("dst", ""))
            if device in own or destination in ("default", "") or destination.startswith("fe80:"):
                continue
            found.append((destination, device or "the host's routes"))
    return found


def owned_bridges(owner: str) -> list[str]:
    """The bridges that carry the mark of `owner`."""
    links = query("-d", "link", "show", "type", "bridge")
    return [str(link["ifname"]) for link in links if link.get("ifalias") == owner]


def ensure_bridge(network: Network, owner: str) -> None:
    """Make a network's bridge what it should be; it gets the mark of `owner`.

    A bridge that somebody else made is taken as it is, and gets the address.
    Raises HyperError, and Conflict when it is another hyperd's.
    """
    name = network.bridge
    links = [link for link in query("-d", "link", "show") if link.get("ifname") == name]
    if not links:
        try:
            run("ip", "link", "add", "name", name, "type", "bridge")
            run("ip", "link", "set", "dev", name, "alias", owner, "mtu", str(network.mtu))
        except HyperError as error:
            raise HyperError(
                f"make the bridge of network {network.name}: {error.message}"
            ) from None
    elif links[0].get("linkinfo", {}).get("info_kind") != "bridge":
        raise Conflict(f"{name} exists on the host and is not a bridge: set Bridge to another name")
    else:
        _check_owner(name, str(links[0].get("ifalias", "")), owner)
    _set_ipv6(name, network.subnet(6) is not None)
    _address(network, mine=not links or links[0].get("ifalias") == owner)
    run("ip", "link", "set", "dev", name, "up")
    # Packets to 127.0.0.1 are sent on to containers, and only those: see the rules.
    _write(f"ipv4/conf/{name}/route_localnet", "1")
    _forward(network)


def _check_owner(name: str, alias: str, owner: str) -> None:
    kind = owner.partition(":")[0]
    if alias.startswith(kind + ":") and alias != owner:
        raise Conflict(
            f"the bridge {name} is another hyperd's ({alias.partition(':')[2]}): set Bridge and"
            " BridgeIP to others"
        )


def _address(network: Network, *, mine: bool) -> None:
    """Give the bridge its addresses; ours loses others."""
    wanted = {
        f"{s.gateway}/{s.subnet.partition('/')[2]}": ("-6" if s.version == 6 else "-4")
        for s in network.subnets
    }
    present = set()
    for link in query("address", "show", "dev", network.bridge):
        for item in link.get("addr_info", []):
            address = f"{item.get('local')}/{item.get('prefixlen')}"
            if address in wanted:
                present.add(address)
            elif mine and item.get("scope") == "global":
                run("ip", "address", "del", address, "dev", network.bridge)
    for address, family in wanted.items():
        if address not in present:
            more = ("nodad",) if family == "-6" else ()
            run("ip", family, "address", "add", address, "dev", network.bridge, *more)


def _forward(network: Network) -> None:
    """Let the host route; interfaces that learn their IPv6 routes go on doing so."""
    if network.internal:
        return
    if network.subnet(4):
        _write("ipv4/ip_forward", "1")
    if network.subnet(6) and _read("ipv6/conf/all/forwarding") == "0":
        for path in sorted((_SYSCTL / "ipv6/conf").glob("*/accept_ra")):
            if path.read_text().strip() == "1":
                _write(str(path.relative_to(_SYSCTL)), "2")
        _write("ipv6/conf/all/forwarding", "1")


def _set_ipv6(name: str, wanted: bool) -> None:
    if (_SYSCTL / f"ipv6/conf/{name}").exists():
        _write(f"ipv6/conf/{name}/disable_ipv6", "0" if wanted else "1")


def _read(name: str) -> str:
    try:
        return (_SYSCTL / name).read_text().strip()
    except OSError:
        return ""


def _write(name: str, value: str) -> None:
    """Raises HyperError, unless it has that value already."""
    if _read(name) == value:
        return
    try:
        (_SYSCTL / name).write_text(value)
    except OSError as error:
        raise HyperError(f"set net/{name} to {value}: {error.strerror}") from error


def exists(name: str) -> bool:
    """Whether there is an interface of that name (/sys may show another namespace's)."""
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


def delete_bridge(name: str) -> None:
    """Remove a bridge; one that is gone is fine. Raises HyperError."""
    if exists(name):
        run("ip", "link", "delete", "dev", name, "type", "bridge")


def make_tap(bridge: str, mtu: int) -> int:
    """Make a tap at a bridge. Returns its descriptor, with which it ends. Raises HyperError."""
    tap, name = new_tap()
    try:
        _attach(name, bridge, mtu)
    except OSError as error:
        os.close(tap)
        raise HyperError(f"make a tap at the bridge {bridge}: {error.strerror}") from error
    except BaseException:
        os.close(tap)
        raise
    return tap


def _attach(name: str, bridge: str, mtu: int) -> None:
    _set_ipv6(name, False)
    tap = name.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, _SIOCGIFINDEX, struct.pack("16s24x", tap))
        (index,) = struct.unpack_from("i", request, 16)
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", tap, mtu))
        fcntl.ioctl(control, _SIOCBRADDIF, struct.pack("16si20x", bridge.encode(), index))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", tap, _IFF_UP))
