"""`hyper system df`: what takes how much of the disk."""

from __future__ import annotations

from .output import add_format, human_size, print_json, print_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from .arguments import Parser
    from .session import Session

_LIVE = ("running", "paused", "starting", "restarting")


def configure_df(parser: Parser) -> None:
    """Options of `system df`."""
    add_format(parser)


def command_df(session: Session, args: argparse.Namespace) -> int:
    """`hyper system df`."""
    usage = session.client().disk_usage()
    if args.format == "json":
        print_json(usage)
        return 0
    images, containers, volumes = usage["Images"], usage["Containers"], usage["Volumes"]
    rows = [
        _row(
            "Images",
            len(images),
            sum(image["Containers"] > 0 for image in images),
            usage["LayersSize"],
            usage["ImagesReclaimable"],
        ),
        _counted("Containers", [(c["SizeRw"], c["State"] in _LIVE) for c in containers]),
        _counted(
            "Local Volumes",
            [(v["UsageData"]["Size"], v["UsageData"]["RefCount"] > 0) for v in volumes],
        ),
    ]
    print_table(("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"), rows)
    return 0


def _counted(what: str, items: Sequence[tuple[int, bool]]) -> tuple[str, ...]:
    """A row of things with their sizes and whether they are in use."""
    size = sum(size for size, _ in items)
    free = sum(size for size, active in items if not active)
    return _row(what, len(items), sum(active for _, active in items), size, free)


def _row(what: str, total: int, active: int, size: int, free: int) -> tuple[str, ...]:
    share = f" ({100 * free // size}%)" if size else ""
    return (what, str(total), str(active), human_size(size), human_size(free) + share)
