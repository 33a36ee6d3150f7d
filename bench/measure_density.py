"""A hundred clones alive at once: what each takes, and whether the last starts like the first.

HYPER_BENCH_VMS: how many; HYPER_BENCH_MERGE: MemoryMerge, for which KSM must run.
"""

import json
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypercontainer.sandbox import VMConfig, template
from hypercontainer.system import merging

from .daemon import Hyper, hyperd
from .measure_memory import pss
from .results import Result

VMS = int(os.environ.get("HYPER_BENCH_VMS", "100"))
MERGE = os.environ.get("HYPER_BENCH_MERGE", "off")
_EDGE = 10
# Seconds after which an idle VM has given back what it no longer needs.
_REST = 30.0
# After so many scans KSM has merged what stays the same, and in at most so many seconds.
_SCANS, _SCANS_BOUND = 5, 600.0
_SCANNED = Path("/sys/kernel/mm/ksm/full_scans")
_SLEEP = ("busybox", "sleep", "86400")


def measure() -> Iterator[Result]:
    """Memory of each VM, all processes counted, right after an exec in each and at rest (bound:
    20 MB); the last starts against the first (bound: 1.5 times); starts a second on all cores."""
    template.make(VMConfig())
    if MERGE != merging.OFF and (trouble := merging.trouble()):
        raise RuntimeError(trouble)
    with hyperd("use", merge=MERGE) as hyper:
        hyper("run", "--rm", "busybox", "true")
        try:
            starts = [1000 * hyper.timed("run", "-d", *_SLEEP) for _ in range(VMS)]
            busy = _answering(hyper)
            time.sleep(_REST)
            if MERGE != merging.OFF:
                _wait_for_scans()
            taken, sizes = _taken(hyper), _sizes(hyper)
        finally:
            hyper("rm", "-f", *hyper("list", "-aq").split())
        rate = _rate(hyper)
    yield Result("clones alive at once, each answering an exec", "VMs", [VMS], key="vms")
    yield Result("memory of each right after (PSS)", "MB", [busy / 1e6], key="pss_mb_busy_vm")
    yield Result(
        f"memory of each, all processes, {_REST:.0f} s later",
        "MB",
        [taken / 1e6],
        at_most=20.0,
        key="pss_mb_per_vm",
        note=f"{sizes}, MemoryMerge {MERGE}",
    )
    first, last = starts[:_EDGE], starts[-_EDGE:]
    yield Result(f"start of the first {_EDGE}", "ms", first, key="first_start_ms")
    yield Result(f"start of the last {_EDGE}", "ms", last, key="last_start_ms")
    ratio = statistics.median(last) / statistics.median(first)
    yield Result("the last against the first", "times", [ratio], at_most=1.5)
    yield Result("starts a second, as many at once as cores", "1/s", [rate], key="starts_per_s")


def _answering(hyper: Hyper) -> float:
    """Bytes of each VM right after each has answered an exec. Raises RuntimeError."""
    names = hyper("list", "-q").split()
    if len(names) != VMS:
        raise RuntimeError(f"{len(names)} of {VMS} containers run")
    for name in names:
        hyper("exec", name, "true")
    return _taken(hyper)


def _wait_for_scans() -> None:
    wanted = int(_SCANNED.read_text()) + _SCANS
    deadline = time.monotonic() + _SCANS_BOUND
    while int(_SCANNED.read_text()) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"KSM did not scan {_SCANS} times in {_SCANS_BOUND:.0f} s")
        time.sleep(1.0)


def _taken(hyper: Hyper) -> float:
    """Bytes of each VM, with its part of hyperd."""
    return sum(pss(pid) for pid in _descendants(hyper.pid)) / VMS


def _rate(hyper: Hyper) -> float:
    workers = os.cpu_count() or 1
    count = 10 * workers
    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda _: hyper("run", "--rm", "busybox", "true"), range(count)):
            pass
    return count / (time.perf_counter() - begin)


def _sizes(hyper: Hyper) -> str:
    """Where the memory is: the mean PSS by the name of the processes."""
    sums: dict[str, list[int]] = {}
    for pid in _descendants(hyper.pid):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        sums.setdefault(name, []).append(pss(pid))
    means = {name: round(statistics.mean(found) / 1e6, 1) for name, found in sums.items()}
    return json.dumps(means)


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if stat[0] not in "ZX":
                parents[int(entry.name)] = int(stat[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found
