"""`hyper snapshot` and `hyper fork`: pods saved with what runs in them, and copies of them."""

from __future__ import annotations

import calendar
import time

from . import network_options
from .arguments import UsageError, labels, positive, subcommands
from .containers import for_each
from .output import add_format, age, human_size, print_json, print_table, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser
    from .session import Session

# The options of `run` that stand beside --from-snapshot: what a copy has of its own.
BESIDE = (
    *("detach", "attach", "sig_proxy", "detach_keys", "tty", "interactive", "rm", "name"),
    *("hostname", "label", "network", "publish", "publish_all", "from_snapshot", "operands"),
    *("ip", "ip6", "mac_address", "network_alias", "pull"),
)


def configure_snapshot(parser: Parser) -> None:
    """The commands below `snapshot`."""
    subcommands(
        parser,
        {
            "create": (_configure_create, _create, "save a running container; it goes on"),
            "ls": (_configure_ls, _list, "list snapshots"),
            "rm": (_configure_names, _remove, "remove snapshots; copies of them go on"),
            "inspect": (_configure_names, _inspect, "show everything about snapshots, as JSON"),
        },
        default="create",
    )


def _configure_create(parser: Parser) -> None:
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("name", metavar="NAME")


def _configure_ls(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="only names")
    add_format(parser)


def _configure_names(parser: Parser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")


def _create(session: Session, args: argparse.Namespace) -> int:
    show(session.client().create_snapshot(args.container, args.name)["Name"])
    return 0


def _list(session: Session, args: argparse.Namespace) -> int:
    found = session.client().list_snapshots()
    if args.format == "json":
        print_json(found)
        return 0
    if args.quiet:
        for snapshot in found:
            show(snapshot["Name"])
        return 0
    rows = [
        (
            s["Name"],
            ", ".join(c["Name"] for c in s["Containers"]),
            ", ".join(dict.fromkeys(c["Image"] for c in s["Containers"])),
            age(_seconds(s["Created"])),
            human_size(s["Size"]),
        )
        for s in found
    ]
    print_table(("NAME", "CONTAINERS", "IMAGES", "CREATED", "SIZE"), rows)
    return 0


def _seconds(moment: str) -> int:
    """Seconds since 1970 of a time that hyperd gives (RFC 3339 in UTC)."""
    return calendar.timegm(time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S"))


def _remove(session: Session, args: argparse.Namespace) -> int:
    return for_each(session, args.names, session.client().remove_snapshot)


def _inspect(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    print_json([client.inspect_snapshot(name) for name in args.names])
    return 0


def configure_fork(parser: Parser) -> None:
    """Options of `fork`."""
    add = parser.add_argument
    add("-n", "--count", type=positive, default=1, metavar="N", help="copies (default: 1)")
    add("--name", default="", metavar="NAME", help="name of the copy (default: made up)")
    add("--rm", action="store_true", help="remove the copies when they end")
    add("--hostname", default="", metavar="NAME", help="host name (default: the copy's name)")
    add("-l", "--label", action="append", default=[], metavar="NAME=VALUE", help="set a label")
    add(
        "-p",
        "--publish",
        action="append",
        default=[],
        metavar="[[ADDRESS:]PORT:]PORT[/udp]",
        help="publish a port; those of the container itself are not the copy's",
    )
    add("container", metavar="CONTAINER")


def command_fork(session: Session, args: argparse.Namespace) -> int:
    """`hyper fork`."""
    keys = {
        **_own_keys(args),
        "portmappings": [network_options.mapping(item) for item in args.publish],
    }
    wanted = {key: value for key, value in keys.items() if value}
    for created in session.client().fork_container(args.container, args.count, wanted):
        show(created["Containers"][0])
    return 0


def wanted_of_run(args: argparse.Namespace) -> dict[str, Any]:
    """What a copy is to have of its own, by the options of `run`. Raises UsageError."""
    for name, value in vars(args).items():
        if name not in (*BESIDE, "run", "default_of") and value != args.default_of(name):
            raise UsageError(
                f"--from-snapshot: --{name.replace('_', '-')} can't be given: the copy has what"
                " the snapshot has"
            )
    if args.operands:
        raise UsageError(f"--from-snapshot: {args.operands[0]}: the snapshot has its image already")
    wanted = {**_own_keys(args), **network_options.pod_keys(args)}
    return {key: value for key, value in wanted.items() if value}


def _own_keys(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "id": args.name,
        "hostname": args.hostname,
        "labels": labels(args.label),
        "autoRemove": args.rm,
    }
