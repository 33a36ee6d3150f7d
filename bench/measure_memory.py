"""The memory of the host's side of a VM: the sandbox process and its helpers, QEMU aside."""

import time
from collections.abc import Iterator
from pathlib import Path

from hypercontainer.daemon.config import Config
from hypercontainer.pods.layout import Layout
from hypercontainer.sandbox import read_state

from .daemon import Hyper, hyperd
from .results import Result

CONTAINERS = 4
SETTLE = 2.0


def measure() -> Iterator[Result]:
    """PSS a VM over a few VMs that idle (bound: 25 MB), and of QEMU."""
    with hyperd() as hyper:
        names = [hyper("run", "-d", "busybox", "sleep", "600").strip() for _ in range(CONTAINERS)]
        try:
            time.sleep(SETTLE)
            own, emulators = _sizes(hyper)
        finally:
            hyper("rm", "-f", *names)
    note = f"each of {CONTAINERS} idle VMs; the sandbox process and its children but QEMU"
    yield Result("host's side of a VM (PSS)", "MB", own, at_most=25.0, note=note)
    yield Result("QEMU with a 128 MiB guest (PSS)", "MB", emulators)


def _sizes(hyper: Hyper) -> tuple[list[float], list[float]]:
    """MB of the sandboxes' own processes, and of their QEMUs, by VM."""
    layout = Layout(hyper.root, Config(root=hyper.root).state_dir)
    own, emulators = [], []
    for directory in layout.sandboxes.iterdir():
        state = read_state(directory)
        if state is None or not state["alive"]:
            raise RuntimeError(f"the sandbox of {directory} does not run")
        emulator = state["vmm_pid"]
        others = [pid for pid in _descendants(state["pid"]) if pid != emulator]
        own.append(sum(map(pss, others)) / 1e6)
        emulators.append(pss(emulator) / 1e6)
    if len(own) != CONTAINERS:
        raise RuntimeError(f"{len(own)} sandboxes found, not {CONTAINERS}")
    return own, emulators


def _descendants(pid: int) -> Iterator[int]:
    """The process and all below it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _descendants(int(child))


def pss(pid: int) -> int:
    """The proportional set size in bytes (proc(5), smaps_rollup); 0 for a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no Pss")
