"""Pods by containerd's CRI: how long one takes, fifty at once, and what a pod costs the node."""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .daemon import BIN
from .measure_memory import pss
from .results import Result

if TYPE_CHECKING:
    from tests.containerd.cri import CRI, Pod

PODS = int(os.environ.get("HYPER_BENCH_PODS", "50"))
_SINGLE = 5


def measure() -> Iterator[Result]:
    """A pod with one container, from RunPodSandbox to the first answer of an exec in it; then
    many asked for at once; then their memory, and the time until all are removed."""
    with _containerd() as cri:
        singles = [_timed(cri) for _ in range(_SINGLE)]
        begin = time.perf_counter()
        with ThreadPoolExecutor(PODS) as pool:
            pods = list(pool.map(lambda _: _start(cri), range(PODS)))
        started = time.perf_counter() - begin
        ready = sum(
            cri.call.word("PodSandboxState", item.state) == "SANDBOX_READY"
            for item in cri.call("ListPodSandbox").items
        )
        sizes = [_memory(cri, pod) for pod in pods]
        groups = [_group_memory(cri, pod) for pod in pods]
        shims = _shims(cri)
        begin = time.perf_counter()
        with ThreadPoolExecutor(PODS) as pool:
            list(pool.map(lambda pod: pod.remove(), pods))
        removed = time.perf_counter() - begin
    yield Result("a pod with a container, to the first exec", "s", singles, key="pod_s")
    yield Result("pods at once that run and answer", "pods", [ready], at_least=PODS, key="pods")
    yield Result("all of them from the first request", "s", [started], key="all_s")
    yield Result("all of them removed", "s", [removed], key="removed_s")
    yield Result("a pod's processes in its groups (PSS)", "MB", sizes, key="pss_mb_per_pod")
    yield Result("a pod's memory as its group counts it", "MB", groups, key="group_mb_per_pod")
    yield Result("a pod's shim (PSS)", "MB", shims, key="shim_mb_per_pod")


def _start(cri: "CRI") -> "Pod":
    pod = cri.pod()
    box = pod.run("box", "sleep", "86400")
    assert box.said("echo", "there") == "there\n"
    return pod


def _timed(cri: "CRI") -> float:
    begin = time.perf_counter()
    pod = _start(cri)
    taken = time.perf_counter() - begin
    pod.remove()
    return taken


def _groups(cri: "CRI", pod: "Pod") -> Iterator[Path]:
    """Directories of the pod's group, by the controller of memory."""
    for root in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        if (place := Path(root, cri.name, pod.name)).is_dir():
            yield place
            return


def _memory(cri: "CRI", pod: "Pod") -> float:
    """All processes of a pod but its shim, in MB."""
    pids = {
        int(pid)
        for group in _groups(cri, pod)
        for file in group.rglob("cgroup.procs")
        for pid in file.read_text().split()
    }
    return sum(pss(pid) for pid in pids) / 1e6


def _group_memory(cri: "CRI", pod: "Pod") -> float:
    for group in _groups(cri, pod):
        for name in ("memory.usage_in_bytes", "memory.current"):
            if (file := group / name).exists():
                return int(file.read_text()) / 1e6
    return 0.0


def _shims(cri: "CRI") -> list[float]:
    """The shims of this containerd, in MB."""
    from tests.engines import leftovers

    return [pss(pid) / 1e6 for pid in leftovers.shims(str(cri.directory))]


@contextmanager
def _containerd() -> "Iterator[CRI]":
    from tests.containerd.cri import CRI
    from tests.containerd.cri_image import write_image
    from tests.e2e.rootfs import make_tree

    with tempfile.TemporaryDirectory(prefix="hyper-bench.", dir="/var/tmp") as name:
        directory = Path(name)
        archive = write_image(directory / "box.tar", make_tree(directory / "tree"))
        cri = CRI(directory, archive, BIN / "runv")
        try:
            yield cri
        finally:
            cri.remove_all()
            cri.close()
