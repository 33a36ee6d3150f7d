"""How much memory may be taken: what the host has, and what this process's control groups let."""

import os
from pathlib import Path

from . import cgroups

_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def available() -> int:
    """Bytes that can be taken without anybody being killed for it, by MemAvailable of proc(5)."""
    left = [_host()]
    for directory in cgroups.own_directories():
        path = Path(directory)
        while path != path.parent and os.path.exists(path / "cgroup.procs"):
            left += [room for files in _FILES if (room := _room(path, *files)) is not None]
            path = path.parent
    return max(min(left), 0)


def _host() -> int:
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 1 << 62


def _room(directory: Path, limit: str, used: str) -> int | None:
    """What a group lets its processes take; pages of files in it are given back under pressure."""
    try:
        most = (directory / limit).read_text().strip()
        if most == "max":
            return None
        return int(most) - int((directory / used).read_text()) + _cached(directory)
    except (OSError, ValueError):
        return None


def _cached(directory: Path) -> int:
    lines = (directory / "memory.stat").read_text().splitlines()
    values = dict(line.split(None, 1) for line in lines if " " in line)
    names = ("inactive_file", "active_file")
    if "total_inactive_file" in values:
        names = ("total_inactive_file", "total_active_file")
    return sum(int(values.get(name, 0)) for name in names)
