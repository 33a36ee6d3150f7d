"""`ctr run` of `true` by runv's shim beside runc's, on one containerd, in turns; a shim's memory.

A VM is ready before each of ours, as it is for whoever runs one now and then.
"""

import compileall
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypercontainer
from hypercontainer.containerd.api import shim_task_pb2 as pb
from hypercontainer.containerd.shim import address
from hypercontainer.containerd.ttrpc.client import Client
from tests.e2e.rootfs import make_tree
from tests.engines.containerd import Containerd, runv_shim

from . import bundles
from .daemon import BIN, COMMAND_BOUND
from .measure_memory import pss
from .ready import wait_for_ready
from .results import Result

ROUNDS = int(os.environ.get("HYPER_BENCH_ROUNDS", "20"))
PODS = 4
SETTLE = 2.0
_SERVICE = "containerd.task.v2.Task"


def measure() -> Iterator[Result]:
    """Wall time of both (bound: 250 ms more), and the PSS of a shim (bound: 15 MB)."""
    compileall.compile_dir(Path(hypercontainer.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory(prefix="hyper-bench.") as name:
        directory = Path(name)
        tree = make_tree(directory / "tree")
        engine = Containerd(directory, runv_shim(BIN / "runv"), tree)
        try:
            yield from _starts(engine, tree)
            yield from _memory(engine)
        finally:
            engine.remove_all()
            engine.close()


def _starts(engine: Containerd, tree: Path) -> Iterator[Result]:
    base = ["ctr", "--address", f"{engine.directory}/c.sock", "-n", "default"]

    def ours(*, ready: bool) -> float:
        if ready:
            wait_for_ready()
        arguments = engine.run_arguments(engine.new_id(), "--rm")
        return 1000 * bundles.timed([*base, *arguments, "/bin/true"], COMMAND_BOUND)

    def theirs() -> float:
        arguments = ["run", "--rm", "--rootfs", str(tree), engine.new_id(), "/bin/true"]
        return 1000 * bundles.timed([*base, *arguments], COMMAND_BOUND)

    ours(ready=False)
    samples = [(ours(ready=True), theirs(), ours(ready=False)) for _ in range(ROUNDS)]
    cloned, runc, forked = (list(column) for column in zip(*samples, strict=True))
    yield Result("ctr run of true, runc's shim", "ms", runc, key="runc_shim_ms")
    yield Result("ctr run of true, runv's shim, on a ready clone", "ms", cloned, key="shim_ms")
    yield Result("the same right after, cloned", "ms", forked, key="shim_forked_ms")
    more = [statistics.median(cloned) - statistics.median(runc)]
    yield Result("runv's shim over runc's", "ms", more, at_most=250.0, note="of the medians")


def _memory(engine: Containerd) -> Iterator[Result]:
    sizes = []
    for _ in range(PODS):
        path = address.read(str(engine.bundle(cid := engine.start("sleep", "600"))))
        time.sleep(SETTLE)
        answer = Client(path).call(
            _SERVICE, "Connect", pb.ConnectRequest(id=cid), pb.ConnectResponse, COMMAND_BOUND
        )
        sizes.append(pss(answer.shim_pid) / 1e6)
    yield Result("a shim (PSS)", "MB", sizes, at_most=15.0, note=f"each of {PODS}")
