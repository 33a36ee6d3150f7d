"""Subnets and addresses: which are valid, which are free."""

import ipaddress
import secrets
from collections.abc import Iterable

from ..errors import BadRequest, Conflict
from .model import Subnet

Net = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where networks without a subnet of their own get one of /24.
_POOL = ipaddress.ip_network("172.30.0.0/15")
_SEARCHED = 1 << 16


def parse_subnet(text: str, where: str) -> Net:
    """A subnet in CIDR form that has room for a pod. Raises BadRequest naming `where`."""
    try:
        net = ipaddress.ip_network(text)
    except ValueError as error:
        raise BadRequest(
            f"{where}: {text!r} is not a subnet such as 10.1.2.0/24: {error}"
        ) from None
    if "/" not in text or net.max_prefixlen - net.prefixlen < 2:
        raise BadRequest(f"{where}: {text} has no room for a gateway and a pod")
    if net.is_loopback or net.is_multicast or net.is_link_local or net.is_unspecified:
        raise BadRequest(f"{where}: {text} is not a subnet for pods")
    if net.prefixlen < 8:
        raise BadRequest(f"{where}: {text} is too large: /8 at the most")
    return net


def parse_address(text: str, where: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address without a zone. Raises BadRequest naming `where`."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise BadRequest(f"{where}: {text!r} is not an IP address") from None
    if "%" in text:
        raise BadRequest(f"{where}: {text!r} has a zone")
    return address


def make_subnet(subnet: str, gateway: str = "", ip_range: str = "") -> Subnet:
    """A checked subnet; the gateway is its first address unless given. Raises BadRequest."""
    net = parse_subnet(subnet, "subnet")
    if gateway:
        chosen = parse_address(gateway, "gateway")
        _check_host(chosen, net, "gateway")
    else:
        chosen = net[1]
    if ip_range:
        part = parse_subnet_part(ip_range)
        if part.version != net.version or not part.subnet_of(net):  # type: ignore[arg-type]
            raise BadRequest(f"ip-range: {ip_range} is not part of the subnet {net}")
        ip_range = str(part)
    return Subnet(str(net), str(chosen), ip_range)


def parse_subnet_part(text: str) -> Net:
    """A range of addresses in CIDR form. Raises BadRequest."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise BadRequest(f"ip-range: {text!r} is not a range: {error}") from None


def _check_host(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, net: Net, where: str
) -> None:
    if address not in net:
        raise BadRequest(f"{where}: {address} is outside of the subnet {net}")
    if address == net.network_address or (net.version == 4 and address == net.broadcast_address):
        raise BadRequest(f"{where}: {address} is not an address of a host in {net}")


def overlapping(subnet: str, others: Iterable[tuple[str, str]]) -> str:
    """What of `others` (subnet, owner) shares addresses with a subnet: "NET of OWNER", or ""."""
    net = ipaddress.ip_network(subnet)
    for text, owner in others:
        other = ipaddress.ip_network(text, strict=False)
        if other.version == net.version and other.overlaps(net):
            return f"{other} of {owner}"
    return ""


def free_subnet(taken: list[tuple[str, str]]) -> Subnet:
    """A /24 of the pool that nothing on the host uses. Raises Conflict when all are taken."""
    for net in _POOL.subnets(new_prefix=24):
        if not overlapping(str(net), taken):
            return make_subnet(str(net))
    raise Conflict(f"no subnet of {_POOL} is free: give one by --subnet")


def free_subnet6(taken: list[tuple[str, str]]) -> Subnet:
    """A random unique local /64 (RFC 4193)."""
    while True:
        prefix = (0xFD << 120) | (secrets.randbits(40) << 80) | (secrets.randbits(16) << 64)
        net = ipaddress.IPv6Network((prefix, 64))
        if not overlapping(str(net), taken):
            return make_subnet(str(net))


def take(
    subnet: Subnet,
    used: set[str],
    network: str,
    *,
    wanted: str = "",
    last: str = "",
    after: str = "",
) -> str:
    """An address for a pod: the wanted one, the one it had last, or the next that is free.

    They are given out in turn, `after` being the latest: one that was let go may still be known
    to others as that of a card that is no more.

    Raises BadRequest for a wanted one that is none of the subnet's, Conflict
    when it is in use, or when none is free.
    """
    net = ipaddress.ip_network(subnet.subnet)
    if wanted:
        address = parse_address(wanted, "ip")
        _check_host(address, net, "ip")
        if str(address) == subnet.gateway:
            raise Conflict(f"ip: {address} is the gateway of network {network}")
        if str(address) in used:
            raise Conflict(f"ip: {address} is in use in network {network}")
        return str(address)
    part = ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else net
    reserved = {net.network_address, *([net.broadcast_address] if net.version == 4 else [])}
    if last and last not in used and last != subnet.gateway:
        address = ipaddress.ip_address(last)
        if address in part and address not in reserved:
            return last
    first, size = int(part.network_address), part.num_addresses
    begin = int(ipaddress.ip_address(after)) + 1 - first if after else 0
    for step in range(min(size, _SEARCHED)):
        address = part.network_address.__class__(first + (begin + step) % size)
        if address not in reserved and str(address) != subnet.gateway and str(address) not in used:
            return str(address)
    raise Conflict(
        f"network {network} has no free address left in {part}: remove containers that do not"
        " run, or make a larger network"
    )
