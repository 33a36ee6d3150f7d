"""`hyper prune` and `hyper system prune`: removing what nobody uses."""

from __future__ import annotations

import sys

from .events import filters
from .output import human_size, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session


def add_prune_options(parser: Parser) -> None:
    """Options of each `prune`."""
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only these: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]",
    )


def confirmed(args: argparse.Namespace, what: str) -> bool:
    """Whether the person agrees, or was not to be asked."""
    if args.force:
        return True
    sys.stdout.write(
        f"WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


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
