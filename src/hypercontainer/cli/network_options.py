"""The options of `run` and `create` that are about networks, as Docker reads them."""

from __future__ import annotations

import re

from .arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser

_PORTS = r"\d{1,5}(?:-\d{1,5})?"
_PUBLISH = re.compile(
    rf"(?:(?P<before>tcp|udp):)?(?:(?P<ip>\[[^\]]*\]|[^:/\[\]]*):)??(?:(?P<host>(?:{_PORTS})?):)?"
    rf"(?P<container>{_PORTS})(?:/(?P<protocol>[a-z]+))?",
    re.ASCII,
)
_MODES = ("none", "user")
_WORDS = ("name", "ip", "ip6", "mac-address", "alias")


def add_options(parser: Parser) -> None:
    """Add the options to the parser of `run` and `create`."""
    group = parser.add_argument_group("networks")

    def several(*flags: str, metavar: str, help: str) -> None:
        group.add_argument(*flags, action="append", default=[], metavar=metavar, help=help)

    several(
        "--network",
        "--net",
        metavar="NAME",
        help="bridge (default), none, user (QEMU's, default where bridges can't be made), or a"
        " network's name; several times for several networks, each also as"
        " name=NAME,ip=ADDRESS,alias=NAME",
    )
    several(
        "--publish",
        metavar="[[ADDRESS:]PORT:]PORT[/udp]",
        help="publish a port, or a range, on the host (also -p); by default on one that is free",
    )
    group.add_argument(
        "-P", "--publish-all", action="store_true", help="publish the ports that the image exposes"
    )
    group.add_argument("--ip", default="", metavar="ADDRESS", help="its IPv4 address")
    group.add_argument("--ip6", default="", metavar="ADDRESS", help="its IPv6 address")
    group.add_argument("--mac-address", default="", metavar="MAC", help="the address of its card")
    several("--network-alias", metavar="NAME", help="another name in its network")
    several("--dns", metavar="ADDRESS", help="a name server to ask for names of the outside")
    several("--dns-search", metavar="DOMAIN", help="a domain to search names in")
    several("--dns-option", metavar="OPTION", help="an option of resolv.conf")
    several("--add-host", metavar="NAME:ADDRESS", help="a line for /etc/hosts; or :host-gateway")


def pod_keys(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of the pod that the options mean. Raises UsageError."""
    keys: dict[str, Any] = {
        "portmappings": [mapping(item) for item in args.publish],
        "publishAllPorts": args.publish_all,
        "dns": args.dns,
        "dnsSearch": args.dns_search,
        "dnsOptions": args.dns_option,
        "extraHosts": args.add_host,
        **_networks(args),
    }
    return {key: value for key, value in keys.items() if value}


def _networks(args: argparse.Namespace) -> dict[str, Any]:
    own = {
        "ip": args.ip,
        "ip6": args.ip6,
        "mac": args.mac_address,
        "aliases": args.network_alias,
    }
    own = {key: value for key, value in own.items() if value}
    networks = [_network(item) for item in args.network]
    if len(networks) == 1 and networks[0]["name"] in _MODES:
        if own:
            raise UsageError(f"--network {networks[0]['name']} has no addresses and no names")
        return {"network": networks[0]["name"]}
    if len(networks) == 1 and len(networks[0]) == 1 and not own:
        return {"network": networks[0]["name"]}
    if own:
        first = networks[0] if networks else {"name": "bridge"}
        networks[:1] = [{**first, **own}]
    return {"networks": networks}


def _network(text: str) -> dict[str, Any]:
    """A name, or name=NAME,ip=…,ip6=…,mac-address=…,alias=…"""
    if "=" not in text:
        return {"name": text}
    network: dict[str, Any] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals or key not in _WORDS:
            raise UsageError(f"--network {text}: {item!r} is not one of {', '.join(_WORDS)}=VALUE")
        if key == "alias":
            network.setdefault("aliases", []).append(value)
        else:
            network["mac" if key == "mac-address" else key] = value
    if "name" not in network:
        raise UsageError(f"--network {text}: name=NAME is missing")
    return network


def is_mapping(text: str) -> bool:
    """Whether a value of `-p` is a published port and no file."""
    return _PUBLISH.fullmatch(text) is not None


def mapping(text: str) -> dict[str, str]:
    """`[ADDRESS:][HOST_PORT:]CONTAINER_PORT[/PROTOCOL]`, or `[tcp:|udp:]HOST:CONTAINER`.

    Raises UsageError.
    """
    match = _PUBLISH.fullmatch(text)
    if not match:
        raise UsageError(
            f"--publish {text}: of the form [[ADDRESS:]HOST_PORT:]CONTAINER_PORT[/udp]"
            " (an IPv6 address in brackets)"
        )
    found = {
        "containerPort": match["container"],
        "hostPort": match["host"] or "",
        "protocol": match["protocol"] or match["before"] or "",
        "hostIP": (match["ip"] or "").strip("[]"),
    }
    return {key: value for key, value in found.items() if value}
