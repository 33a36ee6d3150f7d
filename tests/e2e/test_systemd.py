"""hyperd as a service of a real systemd, which runs in namespaces of the test's own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.systemd_machine import Machine, available

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0 or bool(why := available()), reason="needs systemd"),
]

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose hyperd runs, and has an image."""
    machine = Machine(tmp_path)
    try:
        machine.boot()
        machine("systemctl", "start", "hyperd.service")
        machine.load_image()
        yield machine
    finally:
        machine.close()


def state(machine: Machine, name: str) -> dict[str, object]:
    """What inspect says of a container's state and VM."""
    (found,) = json.loads(machine("hyper", "inspect", name))
    return {**found["State"], **found["VM"]}


def main_pid(machine: Machine) -> str:
    """The pid of hyperd, in the machine."""
    return machine("systemctl", "show", "hyperd", "-p", "MainPID", "--value")


def test_vms_outlive_what_systemd_does_to_hyperd(machine: Machine) -> None:
    machine("hyper", "run", "-d", "--name=counts", "busybox", "sh", "-c", COUNT)
    vm = state(machine, "counts")["VmmPid"]
    first = main_pid(machine)

    machine("systemctl", "restart", "hyperd")
    assert state(machine, "counts")["VmmPid"] == vm
    second = main_pid(machine)
    assert second != first

    machine("kill", "-9", second)
    assert machine("hyper", "exec", "counts", "echo", "hi") == "hi", "waits for the next hyperd"
    assert state(machine, "counts")["VmmPid"] == vm
    assert machine("systemctl", "show", "hyperd", "-p", "NRestarts", "--value") == "1"

    machine("systemctl", "stop", "hyperd.service")
    assert machine("systemctl", "is-active", "hyperd.service", check=False) == "inactive"
    assert Path(f"/proc/{machine._init}/root/proc/{vm}").exists()
    assert machine("hyper", "exec", "counts", "echo", "hi") == "hi", "starts it by its socket"
    assert machine("systemctl", "is-active", "hyperd.service") == "active"
    lines = machine("hyper", "logs", "counts").split()
    assert lines == [str(number) for number in range(len(lines))]

    machine("hyper", "stop", "-t", "0", "counts")
    machine("hyper", "rm", "counts")
    assert "qemu-system" not in machine("ps", "-eo", "args")
