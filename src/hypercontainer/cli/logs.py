"""`hyper logs`, and the options of `run` that say where output goes."""

from __future__ import annotations

import sys

from .arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session


def add_log_options(parser: Parser) -> None:
    """The options of `run` and `create` about logs."""
    parser.add_argument(
        "--log-driver",
        default="",
        metavar="NAME",
        help="json-file, local, journald, syslog or none (default: that of hyperd's configuration)",
    )
    parser.add_argument(
        "--log-opt",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the log driver",
    )


def log_of(args: argparse.Namespace) -> dict[str, object]:
    """The key `log` of a specification; empty when nothing was said. Raises UsageError."""
    options: dict[str, str] = {}
    for item in args.log_opt:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise UsageError(f"--log-opt: {item!r} is not NAME=VALUE")
        options[name] = value
    result: dict[str, object] = {"type": args.log_driver, "config": options}
    return {key: value for key, value in result.items() if value}


def configure_logs(parser: Parser) -> None:
    """Options of `logs`."""
    add = parser.add_argument
    what = "RFC 3339, seconds since 1970, or 90s, 10m, 1h30m ago"
    add("-f", "--follow", action="store_true", help="go on with what is written")
    add("--since", metavar="TIME", help=f"only what was written after TIME: {what}")
    add("--until", metavar="TIME", help="only what was written before TIME")
    add("-n", "--tail", default="all", metavar="LINES", help="only the last LINES (default: all)")
    add("-t", "--timestamps", action="store_true", help="begin lines with the time")
    add(
        "--details",
        action="store_true",
        help="begin lines with the labels and variables that the log driver's options name",
    )
    add("container", metavar="CONTAINER")


def command_logs(session: Session, args: argparse.Namespace) -> int:
    """`hyper logs`."""
    from ..client.streams import Demultiplexer
    from .stream import write_all

    if args.tail != "all" and not (args.tail.isascii() and args.tail.isdigit()):
        raise UsageError(f"--tail: {args.tail!r} is neither a number nor 'all'")
    since = None if args.since is None else moment(args.since, "--since")
    until = None if args.until is None else moment(args.until, "--until")
    client = session.client()
    tty = bool(client.inspect_container(args.container)["Config"].get("Tty"))
    frames = Demultiplexer()
    sys.stdout.flush()
    for data in client.logs(
        args.container,
        follow=args.follow,
        since=since,
        until=until,
        tail=args.tail,
        timestamps=args.timestamps,
        details=args.details,
    ):
        if tty:
            write_all(1, memoryview(data))
        else:
            for which, part in frames.feed(data):
                write_all(which, part)
    return 0


def moment(text: str, option: str) -> str:
    """A time, or a span before now, as hyperd takes it. Raises UsageError naming `option`."""
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
        zoned = re.search(r"(Z|[+-]\d\d:\d\d)$", text)
        return text if zoned else f"{seconds:.6f}"
    raise UsageError(f"{option}: {text!r} is neither a time nor a span such as 10m")
