"""`hyper list` with many pods: the command as a person runs it, and what hyperd takes of it."""

import subprocess
import sys
import time
from collections.abc import Iterator

from hypercontainer.client import Client

from .daemon import Hyper, hyperd
from .results import Result

PODS = 200
RUNNING = 5
ROUNDS = 15


def measure() -> Iterator[Result]:
    """`hyper list` within 150 ms; hyperd's answer alone; an interpreter that does nothing."""
    with hyperd() as hyper:
        client = Client(f"unix://{hyper.socket}")
        for number in range(PODS):
            name = f"pod-{number}"
            item = {"name": name, "image": "busybox", "command": ["sleep", "600"]}
            client.create_pod({"id": name, "containers": [item], "labels": {"number": str(number)}})
        running = [f"pod-{number}" for number in range(RUNNING)]
        try:
            for name in running:
                client.start_container(name)
            yield from _timed(hyper, client)
        finally:
            hyper("rm", "-f", *running)


def _timed(hyper: Hyper, client: Client) -> Iterator[Result]:
    commands, answers, nothing = [], [], []
    for _ in range(ROUNDS):
        commands.append(1e3 * hyper.timed("list", "-a"))
        begin = time.perf_counter()
        assert len(client.list_containers(all=True)) == PODS
        answers.append(1e3 * (time.perf_counter() - begin))
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", ""], check=True, timeout=60)
        nothing.append(1e3 * (time.perf_counter() - begin))
    note = f"{PODS} pods, {RUNNING} of them running"
    yield Result("hyper list -a", "ms", commands, at_most=150.0, note=note)
    yield Result("hyperd's answer to it", "ms", answers, note=note)
    yield Result("python that does nothing", "ms", nothing)
