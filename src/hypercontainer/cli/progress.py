"""The progress of pulls and loads: bars on a terminal, else a line for each change."""

from __future__ import annotations

import sys

from .output import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..client.types import Progress


def show_progress(lines: Iterable[Progress], *, quiet: bool = False) -> list[str]:
    """Show progress on stderr until its end; returns the texts of `stream` lines (of a load)."""
    if quiet:
        return [text for line in lines if (text := line.get("stream", "").strip())]
    if sys.stderr.isatty():
        return _bars(lines)
    return _plain(lines)


def _plain(lines: Iterable[Progress]) -> list[str]:
    texts = []
    shown: dict[str, str] = {}
    for line in lines:
        if text := line.get("stream", "").strip():
            texts.append(text)
        status, item = line.get("status", ""), line.get("id", "")
        if status and shown.get(item) != status:
            shown[item] = status
            tell(f"{item}: {status}" if item else status)
    return texts


def _bars(lines: Iterable[Progress]) -> list[str]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    texts = []
    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.fields[item]}"),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        for line in lines:
            if text := line.get("stream", "").strip():
                texts.append(text)
            status, item = escape(line.get("status", "")), escape(line.get("id", ""))
            if not item:
                if status:
                    bars.console.print(status, highlight=False)
                continue
            if item not in tasks:
                tasks[item] = bars.add_task(status, total=None, item=item)
            detail = line.get("progressDetail") or {}
            if detail.get("total"):
                bars.update(
                    tasks[item],
                    description=status,
                    total=detail["total"],
                    completed=detail.get("current", 0),
                )
            else:
                bars.update(tasks[item], description=status)
    return texts
