"""`runv events`: statistics and out-of-memory events, in the form of runc's (types/events.go).

The numbers are those of the container's cgroup in the guest.
"""

import json
import os
import re
import sys
import time
from typing import Any

from ..errors import BadRequest, HyperError, NotRunning
from ..sandbox.calls import call
from . import records
from .arguments import Arguments

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_POLL = 0.2
_MAX_DIGITS = 20


def events(args: Arguments) -> int:
    """Print them, once with --stats, else until the container ends."""
    interval = duration(args.interval)
    record = records.load(args.root, args.id)
    current, _ = records.status(args.root, record)
    if current == "stopped":
        raise NotRunning(f"container with id {args.id} is not running")
    sandbox, guest_id = records.sandbox_of(args.root, record), record["guest_id"]
    if args.stats:
        _print("stats", args.id, statistics(_files(sandbox, guest_id)))
        return 0
    next_stats, kills = 0.0, None
    while _is_live(args.root, args.id):
        try:
            files = _files(sandbox, guest_id)
        except HyperError:
            break
        if time.monotonic() >= next_stats:
            _print("stats", args.id, statistics(files))
            next_stats = time.monotonic() + interval
        now = table(files.get("memory.events", "")).get("oom_kill", 0)
        if kills is not None and now > kills:
            _print("oom", args.id, None)
        kills = now
        time.sleep(min(_POLL, interval))
    return 0


def _is_live(root: str, cid: str) -> bool:
    try:
        return records.status(root, records.load(root, cid))[0] != "stopped"
    except HyperError:
        return False


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it (`1m30s`, `100ms`). Raises BadRequest."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise BadRequest(f"interval {text!r}: a duration such as 5s or 100ms is expected")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise BadRequest("duration interval must be greater than 0")
    return seconds


def _files(sandbox: str, guest_id: str) -> dict[str, str]:
    files = call(sandbox, "stats", {"container": guest_id}, timeout=30.0)["files"]
    return {str(k): str(v) for k, v in files.items()}


def _print(kind: str, cid: str, data: dict[str, Any] | None) -> None:
    event: dict[str, Any] = {"type": kind, "id": cid}
    if data is not None:
        event["data"] = data
    try:
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(0) from None


def table(text: str) -> dict[str, int]:
    """A flat-keyed file of a cgroup."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and is_count(pair[1])}


def is_count(text: str) -> bool:
    """Whether a guest's text is a number of at most 64 bits."""
    return len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit() and int(text) < 1 << 64


def _number(text: str | None) -> int:
    text = (text or "").strip()
    return int(text) if is_count(text) else 0


def statistics(files: dict[str, str]) -> dict[str, Any]:
    """The `data` of a stats event, from the files of a cgroup v2."""
    cpu, memory = table(files.get("cpu.stat", "")), table(files.get("memory.stat", ""))
    happened = table(files.get("memory.events", ""))
    usage = {
        "limit": _number(files.get("memory.max")),
        "usage": _number(files.get("memory.current")),
        "max": _number(files.get("memory.peak")),
        "failcnt": happened.get("max", 0),
    }
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * 1000,
            },
        },
        "cpuset": {},
        "memory": {
            "cache": memory.get("file", 0),
            "usage": usage,
            "swap": {"limit": 0, "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 0},
            "raw": memory,
        },
        "pids": {
            "current": _number(files.get("pids.current")),
            "limit": _number(files.get("pids.max")),
        },
        "blkio": {"ioServiceBytesRecursive": _block_io(files.get("io.stat", ""))},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _block_io(text: str) -> list[dict[str, Any]]:
    return [
        {"major": major, "minor": minor, "op": operation, "value": values[key]}
        for major, minor, values in devices(text)
        for key, operation in (("rbytes", "Read"), ("wbytes", "Write"))
        if key in values
    ]


def devices(text: str) -> list[tuple[int, int, dict[str, int]]]:
    """The major and minor numbers and the counts of each device of an `io.stat`."""
    found = []
    for device, *pairs in (line.split() for line in text.splitlines() if line.strip()):
        major, _, minor = device.partition(":")
        values = dict(pair.partition("=")[::2] for pair in pairs)
        if is_count(major) and is_count(minor):
            numbers = {key: int(value) for key, value in values.items() if is_count(value)}
            found.append((int(major), int(minor), numbers))
    return found
