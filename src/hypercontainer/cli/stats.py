"""`hyper stats` and `hyper top`."""

from __future__ import annotations

import json
import os
import sys

from .arguments import UsageError
from .output import human_size, print_table, short_id, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from .arguments import Parser
    from .session import Session

_HEADER = (
    "CONTAINER ID",
    "NAME",
    "CPU %",
    "MEM USAGE / LIMIT",
    "MEM %",
    "NET I/O",
    "BLOCK I/O",
    "PIDS",
)


def configure_stats(parser: Parser) -> None:
    """Options of `stats`."""
    parser.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    add_options(parser)
    parser.add_argument("containers", nargs="*", metavar="CONTAINER", help="default: all that run")


def add_options(parser: Parser) -> None:
    """How they are shown."""
    add = parser.add_argument
    add("--no-stream", action="store_true", help="show it once")
    add("--no-trunc", action="store_true", help="print whole ids")
    add(
        "--format",
        choices=("table", "json"),
        default="table",
        help="json: one object a line (default: table)",
    )


def command_stats(session: Session, args: argparse.Namespace) -> int:
    """`hyper stats`."""
    client = session.client()
    names = list(args.containers)
    if args.all and not names:
        names = [c["Id"] for c in client.list_containers(all=True)]
    ticks = client.stats(names, stream=not args.no_stream)
    if args.format == "json":
        for tick in ticks:
            for item in tick:
                show(json.dumps(_row(item, whole=args.no_trunc)))
            sys.stdout.flush()
    elif args.no_stream or not os.isatty(1):
        for tick in ticks:
            rows = [_row(item, whole=args.no_trunc) for item in tick]
            print_table(_HEADER, [_cells(row) for row in rows])
            sys.stdout.flush()
    else:
        _live(ticks, whole=args.no_trunc)
    return 0


def _live(ticks: Iterator[list[dict[str, Any]]], *, whole: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False, transient=False) as live:
        for tick in ticks:
            live.update(_table([_row(item, whole=whole) for item in tick]), refresh=True)


def _table(rows: list[dict[str, str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 3, 0, 0), show_edge=False)
    for title in _HEADER:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in _cells(row)))
    return table


def _cells(row: dict[str, str]) -> tuple[str, ...]:
    names = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
    return tuple(row[name] for name in names)


def _row(stats: dict[str, Any], *, whole: bool) -> dict[str, str]:
    """The keys of Docker's `stats --format json`."""
    used, limit = _memory(stats["memory_stats"])
    block = {"read": 0, "write": 0}
    for entry in stats["blkio_stats"]["io_service_bytes_recursive"]:
        block[entry["op"]] += entry["value"]
    networks = stats["networks"].values()
    received, sent = (sum(n[key] for n in networks) for key in ("rx_bytes", "tx_bytes"))
    identifier = short_id(stats["id"], whole=whole)
    return {
        "BlockIO": f"{human_size(block['read'])} / {human_size(block['write'])}",
        "CPUPerc": f"{cpu_percent(stats):.2f}%",
        "Container": identifier,
        "ID": identifier,
        "MemPerc": f"{100 * used / limit if limit else 0:.2f}%",
        "MemUsage": f"{binary_size(used)} / {binary_size(limit)}",
        "Name": stats["name"].removeprefix("/"),
        "NetIO": f"{human_size(received)} / {human_size(sent)}",
        "PIDs": str(stats["pids_stats"].get("current", 0)),
    }


def _memory(memory: dict[str, Any]) -> tuple[int, int]:
    """What is used, without what the kernel caches and could drop, as Docker counts; the limit."""
    used = memory.get("usage", 0)
    cached = memory.get("stats", {}).get("inactive_file", 0)
    return (used - cached if cached < used else used), memory.get("limit", 0)


def cpu_percent(stats: dict[str, Any]) -> float:
    """Of one processor, between the two samples; 0 without an earlier one."""
    this, last = stats["cpu_stats"], stats["precpu_stats"]
    if not last["system_cpu_usage"]:
        return 0.0
    used = this["cpu_usage"]["total_usage"] - last["cpu_usage"]["total_usage"]
    span = this["system_cpu_usage"] - last["system_cpu_usage"]
    return 100.0 * max(used, 0) / span * int(this["online_cpus"]) if span > 0 else 0.0


def binary_size(size: float) -> str:
    """Bytes in binary units with four significant digits: 4.062MiB."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.4g}{unit}"


def configure_top(parser: Parser) -> None:
    """Options of `top`."""
    parser.command("CONTAINER", "nothing: ps is not used, so it has no options")


def command_top(session: Session, args: argparse.Namespace) -> int:
    """`hyper top`."""
    container, *options = args.operands
    if options:
        raise UsageError(f"{options[0]!r}: ps is not used, so it has no options")
    found = session.client().top(container)
    print_table(found["Titles"], found["Processes"])
    return 0
