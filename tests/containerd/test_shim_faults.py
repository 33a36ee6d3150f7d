"""The shim, containerd, the VM killed: the state is right, and nothing is left."""

import os
import signal
import time
from pathlib import Path

from hypercontainer.sandbox import read_state
from tests.containerd.shim_client import Shim
from tests.engines.commands import until
from tests.engines.containerd import Containerd


def sandbox(cid: str) -> Path:
    """The state directory of a container's VM."""
    return Path("/run/containerd/runv/default") / cid / "sandbox"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def is_stopped(containerd: Containerd, cid: str) -> bool:
    lines = [line for line in containerd.check("task", "ls").splitlines() if cid in line]
    return bool(lines) and "STOPPED" in lines[0]


def leaves_nothing(containerd: Containerd, cid: str) -> None:
    until(lambda: not sandbox(cid).exists(), "records are removed")
    until(lambda: not containerd.look()["processes"], "processes end")
    containerd.ctr("task", "rm", "-f", cid)
    containerd.check("container", "rm", cid)


def test_the_shim_is_killed(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    shim = Shim(containerd.bundle(cid))
    kill(shim.pid(cid))
    until(lambda: cid not in containerd.check("task", "ls"), "containerd has noticed")
    leaves_nothing(containerd, cid)
    assert not Path(shim.path).exists()
    shim.close()


def test_the_vm_is_killed(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    state = read_state(sandbox(cid))
    assert state is not None
    kill(state["vmm_pid"])
    until(lambda: is_stopped(containerd, cid), "the end")
    assert "exit code 137" in containerd.ctr("task", "delete", cid).err
    leaves_nothing(containerd, cid)


def test_the_sandbox_process_is_killed(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    state = read_state(sandbox(cid))
    assert state is not None
    kill(state["pid"])
    until(lambda: is_stopped(containerd, cid), "the end")
    assert "exit code 137" in containerd.ctr("task", "delete", cid).err
    leaves_nothing(containerd, cid)


def test_containerd_is_killed_and_comes_back(containerd: Containerd) -> None:
    stays = containerd.start("sleep", "1000")
    ends = containerd.start("sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done")
    shim = Shim(containerd.bundle(ends))
    pid = shim.pid(ends)
    shim.close()
    time.sleep(1)
    containerd.kill_daemon()
    containerd.start_daemon()
    until(lambda: "RUNNING" in containerd.check("task", "ls"), "the tasks are known")
    again = Shim(containerd.bundle(ends))
    assert again.pid(ends) == pid
    again.close()
    done = containerd.ctr("task", "exec", "--exec-id", "x", stays, "echo", "still here")
    assert done.out == "still here\n"
    containerd.check("task", "kill", "-s", "TERM", ends)
    until(lambda: is_stopped(containerd, ends), "the end")
    assert "exit code 4" in containerd.ctr("task", "delete", ends).err


def test_a_task_that_ends_while_containerd_is_away(containerd: Containerd) -> None:
    cid = containerd.start("sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done")
    pid = next(int(x.split()[1]) for x in containerd.check("task", "ls").splitlines() if cid in x)
    time.sleep(1)
    containerd.kill_daemon()
    os.kill(pid, signal.SIGTERM)
    state = sandbox(cid)
    until(lambda: not (read_state(state) or {}).get("alive"), "the VM ends")
    containerd.start_daemon()
    until(lambda: is_stopped(containerd, cid), "the task is known")
    assert "exit code 4" in containerd.ctr("task", "delete", cid).err
