"""Waiting for the VMs that a keeper or hyperd keeps ready."""

import os
import time
from pathlib import Path

_BOUND = 120.0
_STILL = 0.6


def wait_for_ready(ancestor: int = 0, count: int = 1) -> None:
    """Wait until `count` ready VMs are paused: runv's, or those below a hyperd.

    Raises RuntimeError when they don't come.
    """
    deadline = time.monotonic() + _BOUND
    while True:
        before = _used(ancestor)
        time.sleep(_STILL)
        after = _used(ancestor)
        if sum(after.get(pid) == used for pid, used in before.items()) >= count:
            return
        if time.monotonic() > deadline:
            raise RuntimeError("no VM became ready")


def _used(ancestor: int) -> dict[int, list[str]]:
    """CPU time of the QEMUs of ready VMs."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or b"-name\0ready," not in _read(entry / "cmdline"):
            continue
        parent = _stat(entry)[1:2]
        if parent and _is_ours(parent[0], ancestor):
            found[int(entry.name)] = _stat(entry)[11:13]
    return found


def _is_ours(pid: str, ancestor: int) -> bool:
    entry = Path("/proc") / pid
    if _read(entry / "comm").strip() != b"hyper-ready":
        return False
    own = f"HYPER_TEMPLATES={os.environ.get('HYPER_TEMPLATES', '')}\0".encode()
    if "HYPER_TEMPLATES" in os.environ and own not in _read(entry / "environ"):
        return False
    server = (_stat(entry)[1:2] or ["0"])[0]
    if ancestor:
        return _stat(Path("/proc") / server)[1:2] == [str(ancestor)]
    return _read(Path("/proc") / server / "comm").strip() == b"hyper-keeper"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _stat(entry: Path) -> list[str]:
    return _read(entry / "stat").decode().rpartition(")")[2].split()
