"""The options of `run` and `create` on health checks."""

from __future__ import annotations

import argparse
import re

from .arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .arguments import Parser

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?", re.ASCII)


def duration(text: str) -> float:
    """Seconds of `1h2m3s`, `30s`, `500ms`, or a plain number of seconds.

    Raises argparse.ArgumentTypeError.
    """
    try:
        return float(int(text)) if text.isascii() and text.isdigit() else _duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30s or 1m30s") from None


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ValueError
    hours, minutes, secs, millis = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + secs + millis / 1000


def add_options(parser: Parser) -> None:
    """Add Docker's `--health-*` and `--no-healthcheck`."""
    add = parser.add_argument
    add("--health-cmd", metavar="COMMAND", help="command for /bin/sh that examines the container")
    for name, default, text in (
        ("interval", "30s", "time between examinations"),
        ("timeout", "30s", "how long one may take"),
        ("start-period", "0s", "failures do not count for so long"),
    ):
        add(f"--health-{name}", type=duration, metavar="TIME", help=f"{text} (default: {default})")
    add("--health-retries", type=int, metavar="N", help="failures to be unhealthy (default: 3)")
    add("--no-healthcheck", action="store_true", help="not even what the image says")


def described(args: argparse.Namespace) -> dict[str, object]:
    """The key `health` of a container. Raises UsageError."""
    if args.no_healthcheck:
        if args.health_cmd:
            raise UsageError("--health-cmd and --no-healthcheck exclude each other")
        return {"test": ["NONE"]}
    given = {
        "interval": args.health_interval,
        "timeout": args.health_timeout,
        "startPeriod": args.health_start_period,
        "retries": args.health_retries,
    }
    found: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if args.health_cmd:
        return {"test": args.health_cmd, **found}
    if found:
        raise UsageError("--health-interval and its like need --health-cmd")
    return {}
