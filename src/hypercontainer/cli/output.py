"""Tables, sizes and ages as Docker shows them, and JSON for scripts."""

from __future__ import annotations

import json
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TextIO

    from .arguments import Parser

_GAP = 3
_MIN_WIDTH = 10
_SHORT = 12
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def add_format(parser: Parser) -> None:
    """The option `--format`."""
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="json: everything, for scripts (default: table)",
    )


def show(text: str = "") -> None:
    """A line of a command's output."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """A line for the person, on stderr, after what stands in the output already."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    show(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their content; control characters do not reach the terminal."""
    lines = [list(header), *([_printable(cell) for cell in row] for row in rows)]
    widths = [
        max(_MIN_WIDTH, *(len(line[column]) + _GAP for line in lines))
        for column in range(len(header) - 1)
    ]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        show("".join(cells) + line[-1])


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def short_id(identifier: str, *, whole: bool = False) -> str:
    """An id as shown: 12 digits, or all with its algorithm if `whole`."""
    return identifier if whole else identifier.removeprefix("sha256:")[:_SHORT]


def shorten(text: str, length: int) -> str:
    """Text of at most `length` characters, with an ellipsis in place of the rest."""
    return text if len(text) <= length else text[: length - 1] + "…"


def confirmed(warning: str, stream: TextIO | None = None) -> bool:
    """Ask (on stderr unless told otherwise) whether to go on; all but y and yes is no."""
    stream = stream or sys.stderr
    sys.stdout.flush()
    stream.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    stream.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def human_size(size: float) -> str:
    """Bytes in decimal units with three significant digits: 4.26MB."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g}{unit}"


def age(created: str | float) -> str:
    """How long ago a time (seconds since 1970, or RFC 3339) was: `5 minutes ago`."""
    moment = seconds_of(created)
    return f"{duration(time.time() - moment)} ago" if moment > 0 else "N/A"


def local_time(created: str | float) -> str:
    """A time (seconds since 1970, or RFC 3339) as Docker shows it, in our time zone."""
    moment = time.localtime(seconds_of(created))
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", moment)


def seconds_of(moment: str | float) -> float:
    """Seconds since 1970 of a time given so or by RFC 3339; 0 for none."""
    if not isinstance(moment, str):
        return float(moment)
    from datetime import datetime

    try:
        return max(0.0, datetime.fromisoformat(_microseconds(moment)).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def _microseconds(moment: str) -> str:
    """RFC 3339 with at most the six digits of a fraction that Python reads."""
    head, dot, tail = moment.partition(".")
    if not dot:
        return moment
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[: min(digits, 6)].ljust(6, '0')}{tail[digits:]}"


def duration(seconds: float) -> str:
    """A time span in words."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    if whole < 2 * _MINUTE:
        return "About a minute"
    if whole < _HOUR:
        return f"{whole // _MINUTE} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    days = hours // 24
    for limit, count, unit in (
        (2, hours, "hours"),
        (14, days, "days"),
        (60, days // 7, "weeks"),
        (730, days // 30, "months"),
    ):
        if days < limit:
            return f"{count} {unit}"
    return f"{days // 365} years"
