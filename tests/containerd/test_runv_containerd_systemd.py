"""runv-containerd as a service of a real systemd, which runs in namespaces of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hyperd_process import busybox_archive, wait_until
from tests.e2e.systemd_machine import COUNT, NEEDS_SYSTEMD, Machine
from tests.engines.needs import need

pytestmark = NEEDS_SYSTEMD


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose runv-containerd runs, and has an image."""
    need("ctr")
    machine = Machine(tmp_path, "runv-containerd")
    try:
        machine.boot()
        archive = busybox_archive(tmp_path / "hyper" / "busybox.tar")
        ctr(machine, "image", "import", f"/var/lib/hyper/{archive.name}")
        yield machine
    finally:
        machine.close()


def ctr(machine: Machine, *argv: str) -> str:
    """What `ctr` says, which must not fail."""
    return machine("ctr", "--address", "/run/runv-containerd/containerd.sock", *argv)


def task(machine: Machine, cid: str) -> tuple[str, int]:
    """The status of a container's task, "" without one, and its pid."""
    lines = [line.split() for line in ctr(machine, "task", "ls").splitlines()]
    return next(((line[2], int(line[1])) for line in lines if line[0] == cid), ("", 0))


def test_tasks_outlive_what_systemd_does_to_the_daemon(machine: Machine) -> None:
    image = ctr(machine, "image", "ls", "-q")
    log = "/var/lib/hyper/counts.log"
    ctr(machine, "run", "-d", "--log-uri", f"file://{log}", image, "counts", "sh", "-c", COUNT)
    status, vm = task(machine, "counts")
    assert status == "RUNNING"
    first = machine.main_pid()

    machine("systemctl", "restart", "runv-containerd")
    second = machine.main_pid()
    assert second != first
    assert task(machine, "counts") == ("RUNNING", vm)

    machine("kill", "-9", second)
    wait_until(lambda: machine.main_pid() not in ("0", second), "the next daemon")
    wait_until(
        lambda: machine("systemctl", "is-active", "runv-containerd", check=False) == "active",
        "its readiness",
    )
    assert task(machine, "counts") == ("RUNNING", vm)
    assert ctr(machine, "task", "exec", "--exec-id", "x", "counts", "echo", "hi") == "hi"

    machine("systemctl", "stop", "runv-containerd")
    assert machine.lives(vm)
    machine("systemctl", "start", "runv-containerd")
    assert task(machine, "counts") == ("RUNNING", vm)
    ctr(machine, "task", "kill", "-s", "9", "counts")
    wait_until(lambda: task(machine, "counts")[0] == "STOPPED", "the end of the task")
    ctr(machine, "task", "delete", "counts")
    ctr(machine, "container", "delete", "counts")
    assert not machine.lives(vm)
    lines = machine("cat", log).split()
    assert lines == [str(number) for number in range(len(lines))], "every line came, once"
