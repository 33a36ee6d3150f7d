"""`hyper network …` and `hyper ports …`."""

from __future__ import annotations

from ..errors import HyperError
from .arguments import UsageError, add_filter, filters, labels, subcommands
from .containers import for_each
from .network_options import mapping
from .output import add_format, confirmed, print_json, print_table, short_id, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser
    from .session import Session

_FILTERS = "only those that match: name, id, driver, label, type, dangling"
_MTU = "com.docker.network.driver.mtu"


def configure_network(parser: Parser) -> None:
    """The commands below `network`."""
    subcommands(
        parser,
        {
            "create": (_configure_create, _create, "make a network"),
            "ls": (_configure_ls, _list, "list networks"),
            "rm": (_configure_names, _remove, "remove networks that no container is in"),
            "inspect": (_configure_names, _inspect, "show everything about networks, as JSON"),
            "connect": (_configure_connect, _connect, "put a container in a network"),
            "disconnect": (_configure_disconnect, _disconnect, "take a container out of a network"),
            "prune": (_configure_prune, _prune, "remove the networks that no container is in"),
        },
    )


def _configure_create(parser: Parser) -> None:
    add = parser.add_argument
    several: dict[str, Any] = {"action": "append", "default": []}
    add("-d", "--driver", choices=("bridge",), default="bridge", help="bridge is the only one")
    add("--subnet", metavar="CIDR", help="its addresses; one of IPv4, one of IPv6", **several)
    add("--gateway", metavar="ADDRESS", help="the bridge's address (default: the first)", **several)
    add("--ip-range", metavar="CIDR", help="the part of the subnet that is given out", **several)
    add("--ipv6", action="store_true", help="give it a subnet of IPv6 too")
    add("--internal", action="store_true", help="without a way out")
    add("--mtu", type=int, metavar="BYTES", help="the MTU of its cards (default: 1500)")
    add(
        "-o",
        "--opt",
        metavar="NAME=VALUE",
        help=f"{_MTU}, com.docker.network.bridge.name",
        **several,
    )
    add("--label", metavar="NAME=VALUE", help="set a label", **several)
    add("name", metavar="NAME")


def _configure_ls(parser: Parser) -> None:
    add_filter(parser, _FILTERS, "-f")
    parser.add_argument("-q", "--quiet", action="store_true", help="only ids")
    parser.add_argument("--no-trunc", action="store_true", help="print ids in full")
    add_format(parser)


def _configure_names(parser: Parser) -> None:
    parser.add_argument("names", nargs="+", metavar="NETWORK")


def _configure_connect(parser: Parser) -> None:
    add = parser.add_argument
    add("--ip", default="", metavar="ADDRESS", help="its IPv4 address")
    add("--ip6", default="", metavar="ADDRESS", help="its IPv6 address")
    add("--mac-address", default="", metavar="MAC", help="the address of its card")
    add("--alias", action="append", default=[], metavar="NAME", help="another name in the network")
    add("network", metavar="NETWORK")
    add("container", metavar="CONTAINER")


def _configure_disconnect(parser: Parser) -> None:
    parser.add_argument("network", metavar="NETWORK")
    parser.add_argument("container", metavar="CONTAINER")


def _configure_prune(parser: Parser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    add_filter(parser, _FILTERS)


def _create(session: Session, args: argparse.Namespace) -> int:
    options = _pairs(args.opt, "--opt")
    if args.mtu is not None:
        options[_MTU] = str(args.mtu)
    created = session.client().create_network(
        args.name,
        subnets=_subnets(args),
        ipv6=args.ipv6,
        internal=args.internal,
        labels=labels(args.label),
        options=options,
    )
    show(created)
    return 0


def _subnets(args: argparse.Namespace) -> list[dict[str, str]]:
    """Gateways and ranges with the subnets of their version of IP."""
    subnets = [{"Subnet": subnet} for subnet in args.subnet]
    for key, flag, values in (
        ("Gateway", "--gateway", args.gateway),
        ("IPRange", "--ip-range", args.ip_range),
    ):
        for value in values:
            fitting = [s for s in subnets if (":" in s["Subnet"]) == (":" in value)]
            if len(fitting) != 1 or key in fitting[0]:
                raise UsageError(f"{flag} {value}: give it one --subnet of the same version of IP")
            fitting[0][key] = value
    return subnets


def _pairs(items: list[str], option: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"{option}: {item!r} is not of the form NAME=VALUE")
        pairs[name] = value
    return pairs


def _list(session: Session, args: argparse.Namespace) -> int:
    found = session.client().list_networks(filters(args.filter))
    if args.format == "json":
        print_json(found)
    elif args.quiet:
        for network in found:
            show(short_id(network["Id"], whole=args.no_trunc))
    else:
        rows = [
            (
                short_id(network["Id"], whole=args.no_trunc),
                network["Name"],
                network["Driver"],
                network["Scope"],
                ", ".join(item["Subnet"] for item in network["IPAM"]["Config"]),
            )
            for network in found
        ]
        print_table(("NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNET"), rows)
    return 0


def _remove(session: Session, args: argparse.Namespace) -> int:
    return for_each(session, args.names, session.client().remove_network)


def _inspect(session: Session, args: argparse.Namespace) -> int:
    from .main import report

    client = session.client()
    found: list[dict[str, Any]] = []
    failed = False
    for name in args.names:
        try:
            found.append(client.inspect_network(name))
        except HyperError as error:
            failed = True
            report(session.program, error, session.debug)
    print_json(found)
    return int(failed)


def _connect(session: Session, args: argparse.Namespace) -> int:
    session.client().connect_network(
        args.network,
        args.container,
        ip=args.ip,
        ip6=args.ip6,
        aliases=args.alias,
        mac=args.mac_address,
    )
    return 0


def _disconnect(session: Session, args: argparse.Namespace) -> int:
    session.client().disconnect_network(args.network, args.container)
    return 0


def _prune(session: Session, args: argparse.Namespace) -> int:
    warning = "WARNING! This will remove all networks that no container is in."
    if not args.force and not confirmed(warning):
        return 0
    removed = session.client().prune_networks(filters(args.filter))
    if removed:
        show("Deleted Networks:")
        for name in removed:
            show(name)
    return 0


def configure_ports(parser: Parser) -> None:
    """The commands below `ports`."""
    subcommands(
        parser,
        {
            "ls": (_configure_pod, _list_ports, "list a pod's published ports"),
            "add": (_configure_edit, _add_ports, "publish further ports of a pod"),
            "delete": (_configure_edit, _delete_ports, "take published ports of a pod back"),
        },
    )


def _configure_pod(parser: Parser) -> None:
    add_format(parser)
    parser.add_argument("pod", metavar="POD")


def _configure_edit(parser: Parser) -> None:
    parser.add_argument(
        "-p",
        "--publish",
        action="append",
        required=True,
        metavar="[[ADDRESS:]PORT:]PORT[/udp]",
        help="the port, or a range; `delete` needs only the container's",
    )
    parser.add_argument("pod", metavar="POD")


def _list_ports(session: Session, args: argparse.Namespace) -> int:
    found = session.client().list_ports(args.pod)
    if args.format == "json":
        print_json(found)
        return 0
    rows = [(p["protocol"], _host(p), str(p["containerPort"])) for p in found]
    print_table(("Protocol", "Host Ports", "Container Ports"), rows)
    return 0


def _add_ports(session: Session, args: argparse.Namespace) -> int:
    session.client().add_ports(args.pod, [mapping(item) for item in args.publish])
    return 0


def _delete_ports(session: Session, args: argparse.Namespace) -> int:
    session.client().delete_ports(args.pod, [mapping(item) for item in args.publish])
    return 0


def _host(port: dict[str, Any]) -> str:
    ip = str(port.get("hostIP") or "")
    shown = f"[{ip}]" if ":" in ip else ip
    return f"{shown}:{port['hostPort']}" if ip else str(port["hostPort"])
