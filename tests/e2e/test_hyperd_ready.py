"""VMs that hyperd's factory has ready for pods."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.sandbox import heap
from tests.e2e.hyperd_process import Hyperd, wait_until
from tests.e2e.leaks import drop_templates


def ready_vms(hyperd: Hyperd) -> list[int]:
    """The QEMUs that wait below a hyperd, whose sandboxes do already."""
    assert hyperd.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        command, parent = _command(entry.name), _parent(entry.name)
        if "-name ready,process=hyper-vm" not in command or _name(parent) != "hyper-ready":
            continue
        if _parent(_parent(parent)) == str(hyperd.process.pid):
            found.append(int(entry.name))
    return found


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
    except OSError:
        return ""


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _stat(pid: str | int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: str) -> str:
    return (_stat(pid) or ["", ""])[1]


def _paused(pid: int) -> bool:
    used = _stat(pid)[11:13]
    time.sleep(0.4)
    return used == _stat(pid)[11:13] != []


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Hyperd]:
    made = Hyperd(tmp_path)
    made.environment["HYPER_TEMPLATES"] = str(tmp_path / "templates")
    made.config.write_text('VmFactoryPolicy = {"cache":2,"template":true,"cpu":1,"memory":96}\n')
    made.start()
    made.load_image()
    yield made
    made.close()
    drop_templates(tmp_path / "templates")


def test_a_pod_gets_a_ready_vm_and_others_follow(factory: Hyperd) -> None:
    # The first boots, and becomes the template of the others.
    first = factory.run("sleep", "600", pod_resource={"vcpu": 1, "memory": 96})
    wait_until(lambda: len(ready_vms(factory)) == 2, "two ready VMs")
    wait_until(lambda: all(_paused(vm) for vm in ready_vms(factory)), "they are paused")
    before = set(ready_vms(factory))
    second = factory.run("sleep", "600", pod_resource={"vcpu": 1, "memory": 96})
    taken = before - set(ready_vms(factory))
    assert len(taken) == 1
    assert factory.execute(second, "hostname") != factory.execute(first, "hostname")
    other = factory.run("sleep", "600", pod_resource={"vcpu": 1, "memory": 112})
    assert factory.execute(other, "echo", "of its own size") == (0, "of its own size\n")
    wait_until(lambda: len(ready_vms(factory)) == 2, "another one in its place")
    left = ready_vms(factory)
    assert factory.end(signal.SIGTERM) == 0
    wait_until(lambda: not any(_stat(vm) for vm in left), "no ready VM without hyperd")
    factory.start()
    assert factory.execute(second, "echo", "still there") == (0, "still there\n")
    for container in (first, second, other):
        factory.client.remove_container(container, force=True)
    factory.nothing_left()


def _own_memory(pid: int) -> int:
    """What a process has written of what it shares, in KiB (proc(5), smaps_rollup)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Private_Dirty: +(\d+)", text, re.M)
    assert match is not None
    return int(match[1])


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or not heap.library(),
    reason="it takes CPython 3.11 and the library of `make giveback`",
)
def test_an_idle_sandbox_gives_back_what_it_only_read(factory: Hyperd) -> None:
    container = factory.run("sleep", "600", pod_resource={"vcpu": 1, "memory": 96})
    sandbox = int(factory.vm_of(container)["Pid"])
    assert factory.execute(container, "echo", "busy") == (0, "busy\n")
    busy = _own_memory(sandbox)
    wait_until(lambda: _own_memory(sandbox) < 0.6 * busy, "it gives its copies back", 60.0)
    for _ in range(3):
        assert factory.execute(container, "echo", "as before") == (0, "as before\n")
    factory.client.remove_container(container, force=True)
    factory.nothing_left()


def test_ready_vms_that_die_fail_no_pod(factory: Hyperd) -> None:
    first = factory.run("sleep", "600", pod_resource={"vcpu": 1, "memory": 96})
    wait_until(lambda: len(ready_vms(factory)) == 2, "two ready VMs")
    for vm in ready_vms(factory):
        os.kill(vm, signal.SIGKILL)
    second = factory.run("echo", "fine", pod_resource={"vcpu": 1, "memory": 96})
    factory.client.wait(second)
    assert factory.output_of(second) == "fine\n"
    for container in (first, second):
        factory.client.remove_container(container, force=True)
