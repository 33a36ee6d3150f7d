"""`runv state` against `runc state`, in turns, and the process that stands for a container."""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import bundles
from .daemon import BIN, COMMAND_BOUND
from .measure_memory import pss
from .results import Result

ROUNDS = 60
_SETTLE = 1.0


def measure() -> Iterator[Result]:
    """Wall time of both (bound: 3 times runc's), and the PSS of the proxy (bound: 3 MB)."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.") as name:
        directory = Path(name)
        bundle = bundles.bundle(directory / "bundle", "sleep", "600")
        runv = [str(BIN / "runv"), "--root", str(directory / "runv")]
        runc = ["runc", "--root", str(directory / "runc")]
        try:
            for command in (runv, runc):
                _quietly([*command, "run", "--detach", "--bundle", str(bundle), "bench"])
            time.sleep(_SETTLE)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(bundles.timed([*runv, "state", "bench"], COMMAND_BOUND))
                theirs.append(bundles.timed([*runc, "state", "bench"], COMMAND_BOUND))
            proxy = pss(_pid(runv))
        finally:
            for command in (runv, runc):
                _quietly([*command, "delete", "--force", "bench"])
    yield Result("runc state", "ms", [1000 * t for t in theirs])
    yield Result("runv state", "ms", [1000 * t for t in ours])
    ratio = statistics.median(ours) / statistics.median(theirs)
    yield Result("runv state / runc state", "times", [ratio], at_most=3.0, note="of the medians")
    yield Result("the process that stands for a container (PSS)", "MB", [proxy / 1e6], at_most=3.0)


def _quietly(command: list[str]) -> None:
    """With no pipe that what it leaves behind would hold."""
    subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=COMMAND_BOUND,
    )


def _pid(runv: list[str]) -> int:
    done = subprocess.run(
        [*runv, "state", "bench"], capture_output=True, check=True, timeout=COMMAND_BOUND
    )
    return int(json.loads(done.stdout)["pid"])
