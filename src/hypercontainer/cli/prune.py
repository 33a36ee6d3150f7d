"""`hyper prune` and `hyper system prune`: removing what nobody uses."""

from __future__ import annotations

import sys

from . import output, usage
from .arguments import UsageError, add_filter, filters, subcommands
from .output import human_size, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session


def add_prune_options(parser: Parser) -> None:
    """Options of each `prune`."""
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    add_filter(
        parser,
        "only these: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]",
    )


def confirmed(args: argparse.Namespace, what: str) -> bool:
    """Whether the person agrees, or was not to be asked."""
    return args.force or output.confirmed(f"WARNING! This will remove {what}.", sys.stdout)


def configure_prune(parser: Parser) -> None:
    """Options of `prune`."""
    add_prune_options(parser)


def command_prune(session: Session, args: argparse.Namespace) -> int:
    """`hyper prune`."""
    wanted = filters(args.filter)
    if not confirmed(args, "all stopped containers"):
        return 0
    done = session.client().prune_containers(wanted)
    report("Containers", done["ContainersDeleted"])
    show(f"Total reclaimed space: {human_size(done['SpaceReclaimed'])}")
    return 0


def report(what: str, names: list[str]) -> None:
    """Show what was removed."""
    if names:
        show(f"Deleted {what}:")
        for name in names:
            show(name)
        show()


def configure_system(parser: Parser) -> None:
    """The commands below `system`."""
    subcommands(
        parser,
        {
            "df": (usage.configure_df, usage.command_df, "show what takes how much of the disk"),
            "prune": (
                _configure_system_prune,
                _system_prune,
                "remove what no running container needs",
            ),
        },
    )


def _configure_system_prune(parser: Parser) -> None:
    parser.add_argument(
        "-a", "--all", action="store_true", help="also images with a name that no container uses"
    )
    parser.add_argument(
        "--volumes", action="store_true", help="also anonymous volumes that no container uses"
    )
    add_prune_options(parser)


def _system_prune(session: Session, args: argparse.Namespace) -> int:
    """Remove containers first, then what they may have used."""
    wanted = filters(args.filter)
    if args.volumes and "until" in wanted:
        raise UsageError("--filter: until is not for volumes: leave out --volumes")
    what = ["all stopped containers", "all networks that no container is in"]
    what += ["all anonymous volumes that no container uses"] if args.volumes else []
    what.append("all images without a container" if args.all else "all images without a name")
    if not confirmed(args, ", ".join(what[:-1]) + f" and {what[-1]}"):
        return 0
    client = session.client()
    done = client.prune_containers(wanted)
    size = done["SpaceReclaimed"]
    report("Containers", done["ContainersDeleted"])
    report("Networks", client.prune_networks(wanted))
    if args.volumes:
        volumes = client.prune_volumes(wanted)
        size += volumes["SpaceReclaimed"]
        report("Volumes", volumes["VolumesDeleted"] or [])
    images = client.prune_images({**wanted, **({"dangling": ["false"]} if args.all else {})})
    size += images["SpaceReclaimed"]
    gone = images["ImagesDeleted"] or []
    report("Images", [f"{verb.lower()}: {name}" for item in gone for verb, name in item.items()])
    show(f"Total reclaimed space: {human_size(size)}")
    return 0
