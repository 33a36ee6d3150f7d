"""hyperd as a service of a real systemd, which runs in namespaces of the test's own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hyperd_process import wait_until
from tests.e2e.systemd_machine import COUNT, NEEDS_SYSTEMD, Machine

pytestmark = NEEDS_SYSTEMD


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose hyperd runs, and has an image."""
    machine = Machine(tmp_path)
    try:
        machine.boot()
        machine.load_image()
        yield machine
    finally:
        machine.close()


def state(machine: Machine, name: str) -> dict[str, Any]:
    """What inspect says of a container's state and VM."""
    (found,) = json.loads(machine("hyper", "inspect", name))
    return {**found["VM"], **found["State"]}


def emulators(machine: Machine) -> list[str]:
    """The QEMUs of containers."""
    lines = machine("ps", "-eo", "args").splitlines()
    return [line for line in lines if re.search(r"-name (counts|always|once),", line)]


def test_vms_outlive_what_systemd_does_to_hyperd(machine: Machine) -> None:
    machine("hyper", "run", "-d", "--name=counts", "busybox", "sh", "-c", COUNT)
    vm = state(machine, "counts")["VmmPid"]
    first = machine.main_pid()

    machine("systemctl", "restart", "hyperd")
    assert state(machine, "counts")["VmmPid"] == vm
    second = machine.main_pid()
    assert second != first

    machine("kill", "-9", second)
    assert machine("hyper", "exec", "counts", "echo", "hi") == "hi", "waits for the next hyperd"
    assert state(machine, "counts")["VmmPid"] == vm
    assert machine("systemctl", "show", "hyperd", "-p", "NRestarts", "--value") == "1"

    machine("systemctl", "stop", "hyperd.service")
    assert machine("systemctl", "is-active", "hyperd.service", check=False) == "inactive"
    assert machine.lives(vm)
    assert machine("hyper", "exec", "counts", "echo", "hi") == "hi", "starts it by its socket"
    assert machine("systemctl", "is-active", "hyperd.service") == "active"
    lines = machine("hyper", "logs", "counts").split()
    assert lines == [str(number) for number in range(len(lines))]

    machine("hyper", "stop", "-t", "0", "counts")
    machine("hyper", "rm", "counts")
    wait_until(lambda: not emulators(machine), "the ends of VMs")


def test_after_a_reboot(machine: Machine) -> None:
    run = ("hyper", "run", "-d", "--network=none")
    machine(*run, "--name=always", "--restart=always", "busybox", "sh", "-c", COUNT)
    machine(*run, "--name=once", "busybox", "sh", "-c", COUNT)
    machine.cut()
    machine.boot()
    once = state(machine, "once")
    assert (once["Status"], once["ExitCode"]) == ("exited", 255)
    assert once["Reason"] == "the host was restarted"
    wait_until(lambda: state(machine, "always")["Status"] == "running", "its start", 60)
    assert machine("hyper", "exec", "always", "echo", "hi") == "hi"
    assert machine("hyper", "logs", "always").split().count("0") == 2, "the log goes on"
    machine("hyper", "rm", "-f", "always", "once")
    wait_until(lambda: not emulators(machine), "the ends of VMs")
