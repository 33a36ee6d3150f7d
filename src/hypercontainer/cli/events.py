"""`hyper events`."""

from __future__ import annotations

import json
import sys

from .arguments import add_filter, filters
from .logs import moment
from .output import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser
    from .session import Session


def configure_events(parser: Parser) -> None:
    """Options of `events`."""
    what = "RFC 3339, seconds since 1970, or 90s, 10m, 1h30m"
    parser.add_argument("--since", metavar="TIME", help=f"also those since TIME: {what}")
    parser.add_argument("--until", metavar="TIME", help="end at TIME")
    add_filter(
        parser,
        "only these: type, event, container, pod, image, network, volume, label",
        "-f",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json: one object a line (default: text)",
    )


def command_events(session: Session, args: argparse.Namespace) -> int:
    """`hyper events`."""
    since = None if args.since is None else moment(args.since, "--since")
    until = None if args.until is None else moment(args.until, "--until")
    wanted = filters(args.filter)
    for event in session.client().events(since=since, until=until, filters=wanted):
        show(json.dumps(event) if args.format == "json" else line_of(event))
        sys.stdout.flush()
    return 0


def line_of(event: dict[str, Any]) -> str:
    """An event as Docker shows it."""
    import time

    seconds, fraction = divmod(event["timeNano"], 10**9)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:09d}{zone[:3]}:{zone[3:]}"
    actor = event["Actor"]
    about = ", ".join(f"{key}={value}" for key, value in sorted(actor["Attributes"].items()))
    line = f"{when} {event['Type']} {event['Action']} {actor['ID']}" + (
        f" ({about})" if about else ""
    )
    return "".join(c if c.isprintable() else "?" for c in line)
