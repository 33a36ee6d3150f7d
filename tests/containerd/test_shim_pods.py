"""Containers of a pod: one shim and one VM."""

import os
import signal
from pathlib import Path

from hypercontainer.containerd.api import shim_task_pb2 as pb
from tests.containerd.shim_client import Shim
from tests.engines.commands import until
from tests.engines.containerd import Containerd

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def grouped(containerd: Containerd, group: str, *argv: str) -> str:
    annotation = f"io.containerd.runc.v2.group={group}"
    return containerd.start(*argv, options=("--annotation", annotation))


def said(containerd: Containerd, cid: str, *argv: str) -> str:
    return containerd.check("task", "exec", "--exec-id", "x", cid, *argv)


def test_a_group(containerd: Containerd) -> None:
    group = f"{containerd.name}-g"
    members = [grouped(containerd, group, "sleep", "1000") for _ in range(3)]
    shims = [Shim(containerd.bundle(cid)) for cid in members]
    assert len({shim.path for shim in shims}) == 1
    assert len({shim.pid(members[0]) for shim in shims}) == 1
    assert len({said(containerd, cid, "cat", BOOT_ID) for cid in members}) == 1
    # Each has processes of its own, and an end of its own.
    containerd.remove(members[0])
    assert said(containerd, members[1], "ps").count("sleep 1000") == 1
    shims[0].do("Shutdown", pb.ShutdownRequest(id=members[1]))
    assert said(containerd, members[2], "echo", "alive") == "alive\n"
    containerd.remove(members[1])
    containerd.remove(members[2])
    until(lambda: not Path(shims[0].path).exists(), "the shim ends with its last container")
    for shim in shims:
        shim.close()


def test_a_group_whose_shim_is_killed(containerd: Containerd) -> None:
    group = f"{containerd.name}-k"
    members = [grouped(containerd, group, "sleep", "1000") for _ in range(2)]
    shim = Shim(containerd.bundle(members[0]))
    pid = shim.pid(members[0])
    os.kill(pid, signal.SIGKILL)
    shim.close()
    records = Path("/run/containerd/runv/default")
    for cid in members:
        until(lambda: not (records / cid).exists(), "its records are removed")  # noqa: B023
        containerd.check("container", "rm", cid)
    until(lambda: not containerd.look()["processes"], "processes end")


def test_a_group_goes_on_in_a_new_vm(containerd: Containerd) -> None:
    """A VM ends with its last container; the group's next one starts another."""
    group = f"{containerd.name}-n"
    first = grouped(containerd, group, "true")
    until(lambda: "STOPPED" in containerd.check("task", "ls"), "the first ends")
    second = grouped(containerd, group, "sleep", "1000")
    assert said(containerd, second, "echo", "alive") == "alive\n"
    containerd.remove(second)
    containerd.remove(first)
