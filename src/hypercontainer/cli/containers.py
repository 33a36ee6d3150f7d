"""Commands on containers that print little: stop, kill, rm and the like."""

from __future__ import annotations

import sys

from ..errors import HyperError
from .arguments import seconds
from .output import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from .arguments import Parser
    from .session import Session


def for_each(
    session: Session,
    names: Sequence[str],
    action: Callable[[str], object],
    text: Callable[[object], str] | None = None,
) -> int:
    """Do `action` for each name and print the name (or what `text` makes of the result).

    Goes on after a failure; the exit code is 1 if there was one.
    """
    from .main import report

    failed = False
    for name in names:
        try:
            result = action(name)
        except HyperError as error:
            failed = True
            report(session.program, error, session.debug)
        else:
            show(text(result) if text else name)
            sys.stdout.flush()
    return int(failed)


def _names(parser: Parser) -> None:
    parser.add_argument("containers", nargs="+", metavar="CONTAINER")


def _grace(parser: Parser) -> None:
    parser.add_argument(
        "-t",
        "--time",
        "--timeout",
        dest="time",
        type=seconds,
        metavar="SECONDS",
        help="wait so long before SIGKILL (default: the container's stop timeout, 10)",
    )


def configure_stop(parser: Parser) -> None:
    """Options of `stop`."""
    _grace(parser)
    _names(parser)


def command_stop(session: Session, args: argparse.Namespace) -> int:
    """`hyper stop`."""
    client = session.client()
    return for_each(session, args.containers, lambda name: client.stop_container(name, args.time))


def configure_restart(parser: Parser) -> None:
    """Options of `restart`."""
    _grace(parser)
    _names(parser)


def command_restart(session: Session, args: argparse.Namespace) -> int:
    """`hyper restart`."""
    client = session.client()
    return for_each(
        session, args.containers, lambda name: client.restart_container(name, args.time)
    )


def configure_rename(parser: Parser) -> None:
    """Options of `rename`."""
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("name", metavar="NEW_NAME")


def command_rename(session: Session, args: argparse.Namespace) -> int:
    """`hyper rename`."""
    session.client().rename_container(args.container, args.name)
    return 0


def configure_kill(parser: Parser) -> None:
    """Options of `kill`."""
    parser.add_argument(
        "-s", "--signal", default="KILL", metavar="SIGNAL", help="name or number (default: KILL)"
    )
    _names(parser)


def command_kill(session: Session, args: argparse.Namespace) -> int:
    """`hyper kill`."""
    client = session.client()
    return for_each(session, args.containers, lambda name: client.kill_container(name, args.signal))


def configure_rm(parser: Parser) -> None:
    """Options of `rm`."""
    parser.add_argument("-f", "--force", action="store_true", help="remove running ones too")
    parser.add_argument(
        "-v", "--volumes", action="store_true", help="remove their anonymous volumes too"
    )
    _names(parser)


def command_rm(session: Session, args: argparse.Namespace) -> int:
    """`hyper rm`."""
    client = session.client()
    return for_each(
        session,
        args.containers,
        lambda name: client.remove_container(name, force=args.force, volumes=args.volumes),
    )


def configure_wait(parser: Parser) -> None:
    """Options of `wait`."""
    _names(parser)


def command_wait(session: Session, args: argparse.Namespace) -> int:
    """`hyper wait`."""
    client = session.client()
    return for_each(session, args.containers, client.wait, text=str)


def configure_pause(parser: Parser) -> None:
    """Options of `pause`."""
    parser.add_argument(
        "--to-disk",
        action="store_true",
        help="save them on disk, and end their virtual machines until they are unpaused",
    )
    _names(parser)


def command_pause(session: Session, args: argparse.Namespace) -> int:
    """`hyper pause`."""
    client = session.client()
    return for_each(
        session,
        args.containers,
        lambda name: client.pause_container(name, to_disk=args.to_disk),
    )


def configure_unpause(parser: Parser) -> None:
    """Options of `unpause`."""
    _names(parser)


def command_unpause(session: Session, args: argparse.Namespace) -> int:
    """`hyper unpause`."""
    client = session.client()
    return for_each(
        session,
        args.containers,
        client.unpause_container,
    )


def configure_port(parser: Parser) -> None:
    """Options of `port`."""
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("port", nargs="?", metavar="PORT[/PROTOCOL]", help="only where that is")


def command_port(session: Session, args: argparse.Namespace) -> int:
    """`hyper port`: as Docker shows them."""
    from ..errors import NotFound

    details = session.client().inspect_container(args.container)
    published: dict[str, list[dict[str, str]]] = details["NetworkSettings"].get("Ports") or {}
    wanted = args.port and (args.port if "/" in args.port else f"{args.port}/tcp")
    if wanted and not published.get(wanted):
        raise NotFound(f"no public port {wanted!r} published for {args.container}")
    for port, bindings in sorted(published.items()):
        for binding in bindings or []:
            host = binding["HostIp"]
            address = f"[{host}]" if ":" in host else host
            where = f"{address}:{binding['HostPort']}"
            if wanted is None:
                show(f"{port} -> {where}")
            elif port == wanted:
                show(where)
    return 0
