"""What hyperd costs while pods run and nobody asks for anything. HYPER_BENCH_PODS: how many."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypercontainer.client import Client

from .daemon import hyperd
from .measure_memory import pss
from .results import Result

PODS = int(os.environ.get("HYPER_BENCH_PODS", "100"))
SETTLE = 10.0
WINDOW = 10.0
ROUNDS = 6


def measure() -> Iterator[Result]:
    """At most 2 % of a core and 150 MB (PSS) for hyperd with its helper."""
    with hyperd() as hyper:
        client = Client(f"unix://{hyper.socket}")
        names = [f"idle-{number}" for number in range(PODS)]
        try:
            with ThreadPoolExecutor(os.cpu_count() or 1) as starts:
                list(starts.map(lambda name: _start(client, name), names))
            time.sleep(SETTLE)
            processes = [hyper.pid, *_children(hyper.pid)]
            shares = [_share(processes) for _ in range(ROUNDS)]
            memory = [sum(map(pss, processes)) / 1e6]
        finally:
            for name in names:
                client.remove_container(name, force=True)
    note = f"{PODS} running pods; hyperd and its zygote"
    yield Result("hyperd idle, of a core", "%", shares, at_most=2.0, note=note)
    yield Result("hyperd idle (PSS)", "MB", memory, at_most=150.0, note=note)


def _start(client: Client, name: str) -> None:
    item = {"name": name, "image": "busybox", "command": ["sleep", "3600"]}
    client.create_pod({"id": name, "containers": [item], "resource": {"vcpu": 1, "memory": 64}})
    client.start_container(name)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in found for child in children.read_text().split()]


def _share(processes: list[int]) -> float:
    """Percent of one core that the processes took in a window."""
    before = sum(map(_ticks, processes))
    begin = time.perf_counter()
    time.sleep(WINDOW)
    used = (sum(map(_ticks, processes)) - before) / os.sysconf("SC_CLK_TCK")
    return 100 * used / (time.perf_counter() - begin)


def _ticks(pid: int) -> int:
    """Clock ticks of CPU that a process used (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
