"""`hyper volume create`, `ls`, `rm`, `inspect` and `prune`."""

from __future__ import annotations

from .arguments import UsageError, add_filter, filters, labels, subcommands
from .containers import for_each
from .output import add_format, print_json, print_table, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session


_FILTERS = "only those that match: name, driver, label, dangling"


def configure_volume(parser: Parser) -> None:
    """The commands below `volume`."""
    subcommands(
        parser,
        {
            "create": (_configure_create, _create, "make a volume"),
            "ls": (_configure_ls, _list, "list volumes"),
            "rm": (_configure_rm, _remove, "remove volumes that no container uses"),
            "inspect": (_configure_inspect, _inspect, "show everything about volumes, as JSON"),
            "prune": (_configure_prune, _prune, "remove the volumes that no container uses"),
        },
    )


def _configure_create(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "-d",
        "--driver",
        default="local",
        metavar="DRIVER",
        help="local: a directory of the host, for any number of pods; disk: a disk image, quicker,"
        " for one pod at a time (default: local)",
    )
    add(
        "-o",
        "--opt",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="disk: size=10g; local: type=nfs, device=HOST:/PATH, o=OPTIONS",
    )
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="set a label")
    add("name", nargs="?", default="", metavar="NAME")


def _configure_ls(parser: Parser) -> None:
    add_filter(parser, _FILTERS, "-f")
    parser.add_argument("-q", "--quiet", action="store_true", help="only names")
    add_format(parser)


def _configure_rm(parser: Parser) -> None:
    parser.add_argument(
        "-f", "--force", action="store_true", help="it is no error when there is none"
    )
    parser.add_argument("names", nargs="+", metavar="NAME")


def _configure_inspect(parser: Parser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")


def _configure_prune(parser: Parser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="named ones too")
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    add_filter(parser, _FILTERS)


def _create(session: Session, args: argparse.Namespace) -> int:
    options = _pairs(args.opt, "--opt")
    created = session.client().create_volume(
        args.name, driver=args.driver, options=options, labels=labels(args.label)
    )
    show(created["Name"])
    return 0


def _pairs(items: list[str], option: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise UsageError(f"{option}: {item!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _list(session: Session, args: argparse.Namespace) -> int:
    volumes = session.client().list_volumes(filters(args.filter))
    if args.quiet:
        for volume in volumes:
            show(volume["Name"])
    elif args.format == "json":
        print_json(volumes)
    else:
        print_table(("DRIVER", "VOLUME NAME"), [(v["Driver"], v["Name"]) for v in volumes])
    return 0


def _remove(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    return for_each(session, args.names, lambda n: client.remove_volume(n, force=args.force))


def _inspect(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    print_json([client.inspect_volume(name) for name in args.names])
    return 0


def _prune(session: Session, args: argparse.Namespace) -> int:
    from .output import confirmed, human_size

    what = "all" if args.all else "all anonymous"
    if not args.force and not confirmed(f"This removes {what} volumes that no container uses."):
        return 0
    answer = session.client().prune_volumes(filters(args.filter), everything=args.all)
    for name in answer["VolumesDeleted"] or []:
        show(name)
    show(f"Total reclaimed space: {human_size(answer['SpaceReclaimed'])}")
    return 0
