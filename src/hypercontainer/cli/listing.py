"""Commands that show containers: list, logs, inspect."""

from __future__ import annotations

import sys

from ..errors import HyperError, NotFound
from .arguments import UsageError
from .output import add_format, age, print_json, print_table, short_id, shorten, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..client import Client
    from ..client.types import ContainerSummary
    from .arguments import Parser
    from .session import Session

_COMMAND_WIDTH = 20


def configure_list(parser: Parser) -> None:
    """Options of `list`."""
    parser.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    parser.add_argument("--no-trunc", action="store_true", help="print everything in full")
    add_format(parser)


def command_list(session: Session, args: argparse.Namespace) -> int:
    """`hyper list`."""
    found = session.client().list_containers(all=args.all)
    if args.format == "json":
        print_json(found)
    elif args.quiet:
        for container in found:
            show(short_id(container["Id"], whole=args.no_trunc))
    else:
        header = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "POD", "NAMES")
        print_table(header, [_row(container, whole=args.no_trunc) for container in found])
    return 0


def _row(container: ContainerSummary, *, whole: bool) -> tuple[str, ...]:
    command = container["Command"]
    return (
        short_id(container["Id"], whole=whole),
        container["Image"],
        f'"{command if whole else shorten(command, _COMMAND_WIDTH)}"',
        age(container["Created"]),
        container["Status"],
        container["Pod"],
        ",".join(name.removeprefix("/") for name in container["Names"]),
    )


def configure_logs(parser: Parser) -> None:
    """Options of `logs`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="only what was written after TIME: RFC 3339, seconds since 1970, or 90s, 10m, 1h30m",
    )
    parser.add_argument(
        "-n", "--tail", default="all", metavar="LINES", help="only the last LINES (default: all)"
    )
    parser.add_argument("-t", "--timestamps", action="store_true", help="begin lines with the time")
    parser.add_argument("container", metavar="CONTAINER")


def command_logs(session: Session, args: argparse.Namespace) -> int:
    """`hyper logs`."""
    from ..client.streams import Demultiplexer
    from .stream import write_all

    if args.tail != "all" and not (args.tail.isascii() and args.tail.isdigit()):
        raise UsageError(f"--tail: {args.tail!r} is neither a number nor 'all'")
    since = None if args.since is None else moment(args.since, "--since")
    client = session.client()
    tty = bool(client.inspect_container(args.container)["Config"].get("Tty"))
    frames = Demultiplexer()
    sys.stdout.flush()
    for data in client.logs(
        args.container,
        follow=args.follow,
        since=since,
        tail=args.tail,
        timestamps=args.timestamps,
    ):
        if tty:
            write_all(1, memoryview(data))
        else:
            for which, part in frames.feed(data):
                write_all(which, part)
    return 0


def moment(text: str, option: str) -> str:
    """Seconds since 1970 of a time or of a span before now. Raises UsageError naming `option`."""
    import re
    import time

    from .output import seconds_of

    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return text
    spans = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", text, re.ASCII)
    if spans and "".join(number + unit for number, unit in spans) == text:
        lengths = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
        span = sum(float(number) * lengths[unit] for number, unit in spans)
        return f"{time.time() - span:.6f}"
    if seconds := seconds_of(text):
        return f"{seconds:.6f}"
    raise UsageError(f"{option}: {text!r} is neither a time nor a span such as 10m")


def configure_inspect(parser: Parser) -> None:
    """Options of `inspect`."""
    parser.add_argument("--type", choices=("container", "image"), help="look only for one of these")
    parser.add_argument(
        "-f", "--format", choices=("json",), default="json", help="json is the only one"
    )
    parser.add_argument("names", nargs="+", metavar="NAME")


def command_inspect(session: Session, args: argparse.Namespace) -> int:
    """`hyper inspect`: an array of what was found, as Docker's."""
    from .main import report

    client = session.client()
    found: list[dict[str, Any]] = []
    failed = False
    for name in args.names:
        try:
            found.append(_inspect(client, name, args.type))
        except HyperError as error:
            failed = True
            report(session.program, error, session.debug)
    print_json(found)
    return int(failed)


def _inspect(client: Client, name: str, kind: str | None) -> dict[str, Any]:
    if kind == "image":
        return client.inspect_image(name)
    try:
        return client.inspect_container(name)
    except NotFound:
        if kind == "container":
            raise
    try:
        return client.inspect_image(name)
    except NotFound:
        raise NotFound(f"no such container or image: {name}") from None
