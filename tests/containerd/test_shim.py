"""runv's own shim, by `ctr`."""

import json
import os
import signal
import time
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage

from hypercontainer.containerd.api import shim_task_pb2 as pb
from tests.containerd.shim_client import Shim
from tests.engines.containerd import Containerd
from tests.engines.containerd_cases import *  # noqa: F403
from tests.engines.containerd_cases import memory_usage

_BOUND = 60.0


def test_metrics_are_those_of_the_container(containerd: Containerd) -> None:
    assert 0 < memory_usage(containerd, containerd.start("sleep", "1000")) < 20 << 20


def test_a_terminal_starts_with_the_size_that_it_was_given_before(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    shim = Shim(containerd.bundle(cid))
    script = "set -- $(stty size); exit $(($1 * 2 + $2))"
    process = {"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "terminal": True}
    spec = AnyMessage(value=json.dumps(process).encode())
    shim.do("Exec", pb.ExecProcessRequest(id=cid, exec_id="t", terminal=True, spec=spec))
    shim.do("ResizePty", pb.ResizePtyRequest(id=cid, exec_id="t", height=41, width=131))
    shim.call("Start", pb.StartRequest(id=cid, exec_id="t"), pb.StartResponse)
    waited = shim.call("Wait", pb.WaitRequest(id=cid, exec_id="t"), pb.WaitResponse)
    assert waited.exit_status == 2 * 41 + 131
    shim.close()


def test_shims_are_forked_from_what_the_first_left(containerd: Containerd) -> None:
    forks = _forked_shim(containerd)
    os.kill(forks, signal.SIGKILL)
    assert _forked_shim(containerd) != forks, "another was left"


def _forked_shim(containerd: Containerd) -> int:
    """The process that has forked the shim of a new container, once there is one that does."""
    deadline = time.monotonic() + _BOUND
    while time.monotonic() < deadline:
        cid = containerd.start("sleep", "1000")
        shim = Shim(containerd.bundle(cid))
        status = Path(f"/proc/{shim.pid(cid)}/stat").read_text()
        parent = int(status.rpartition(")")[2].split()[1])
        shim.close()
        if Path(f"/proc/{parent}/comm").read_text() == "hyper-shims\n":
            return parent
    raise AssertionError(f"no shim was forked by another process within {_BOUND:g} s")
