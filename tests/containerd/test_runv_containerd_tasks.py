"""runv-containerd's tasks: containers in VMs by `ctr`, whatever is killed meanwhile."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containerd.runv_containerd import RunvContainerd, running
from tests.e2e.hyperd_process import busybox_archive
from tests.engines import leftovers
from tests.engines.commands import until
from tests.registry import RegistryServer

pytestmark = pytest.mark.timeout(900)

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """busybox in a registry."""
    folder = tmp_path_factory.mktemp("registry")
    with RegistryServer(folder) as server:
        archive = busybox_archive(folder / "busybox.tar")
        yield server.push(f"docker-archive:{archive}", "busybox:latest")


@pytest.fixture(scope="module")
def daemon_module(tmp_path_factory: pytest.TempPathFactory, image: str) -> Iterator[RunvContainerd]:
    """One for all tests here, with the image; nothing is left in the end."""
    with running(tmp_path_factory.mktemp("daemon")) as one:
        one.check("images", "pull", "--plain-http", image)
        yield one
        leftovers.check_none(one.look)


@pytest.fixture
def daemon(daemon_module: RunvContainerd) -> Iterator[RunvContainerd]:
    """With no containers before and after."""
    yield daemon_module
    one = daemon_module
    if one.process is None:
        one.start()
    for cid in one.check("containers", "list", "-q").split():
        one.ctr("task", "kill", "-s", "KILL", cid)
        until(lambda c=cid: not _has_task(one, c) or _remove(one, c), "no task")  # type: ignore[misc]
        one.check("container", "rm", cid)


def _has_task(daemon: RunvContainerd, cid: str) -> bool:
    return cid in daemon.check("task", "list", "-q").split()


def _remove(daemon: RunvContainerd, cid: str) -> bool:
    return daemon.ctr("task", "rm", "-f", cid).code == 0


def _start(daemon: RunvContainerd, image: str, *command: str) -> str:
    cid = daemon.new_id()
    daemon.check("run", "-d", "--cgroup", f"/{daemon.name}/{cid}", image, cid, *command)
    return cid


def _status(daemon: RunvContainerd, cid: str) -> str:
    lines = [line.split() for line in daemon.check("task", "list").splitlines()]
    return next((line[2] for line in lines if line and line[0] == cid), "")


def _events(daemon: RunvContainerd, cid: str) -> list[str]:
    """The topics of what happened to a container's task, since ever."""
    done = subprocess.run(
        daemon.command("events", "since==2020-01-01T00:00:00Z,until==2020-01-01T00:00:00Z"),
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"", "nothing was there then"
    listening = subprocess.Popen(
        daemon.command("events", f"since==2020-01-01T00:00:00Z,event.container_id=={cid}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert listening.stdout is not None
    output = listening.stdout.fileno()
    os.set_blocking(output, False)
    told = b""

    def has_all() -> bool:
        nonlocal told
        try:
            told += os.read(output, 1 << 16)
        except BlockingIOError:
            pass
        return b"/tasks/delete" in told and told.endswith(b"\n")

    try:
        until(has_all, f"/tasks/delete of {cid}", 30)
    finally:
        listening.kill()
        listening.wait(10)
        listening.stdout.close()
    lines = told.decode().splitlines()
    return [line.split()[5] for line in lines]


def test_run(daemon: RunvContainerd, image: str) -> None:
    cid = daemon.new_id()
    done = daemon.ctr("run", "--rm", image, cid, "sh", "-c", "uname -r; echo bad >&2; exit 7")
    assert done.code == 7, done.err
    assert done.out.strip() != os.uname().release, "a kernel of its own"
    assert "bad" in done.err
    assert _events(daemon, cid) == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    assert daemon.ctr("run", "--rm", image, daemon.new_id(), "none").code != 0
    leftovers.check_none(daemon.look)


def test_exec_attach_pause_kill_delete(daemon: RunvContainerd, image: str) -> None:
    cid = _start(daemon, image, "sh", "-c", COUNT)
    ran = daemon.ctr("task", "exec", "--exec-id", "e", cid, "sh", "-c", "cat; exit 3", stdin=b"hi")
    assert (ran.code, ran.out) == (3, "hi")
    terminal = daemon.terminal("task", "exec", "-t", "--exec-id", "t", cid, "sh")
    try:
        # ctr sets the size once the program runs.
        terminal.send("until stty size | grep 80; do sleep 0.2; done; echo $((40 + 2))\n")
        terminal.expect("24 80")
        terminal.expect("42")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5
    finally:
        terminal.close()
    with subprocess.Popen(
        daemon.command("task", "attach", cid), stdout=subprocess.PIPE
    ) as attached:
        assert attached.stdout is not None
        numbers = [int(attached.stdout.readline()) for _ in range(3)]
        attached.kill()
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    daemon.check("task", "pause", cid)
    assert _status(daemon, cid) == "PAUSED"
    daemon.check("task", "resume", cid)
    assert "cpu.usage_usec" in daemon.check("task", "metrics", cid)
    assert daemon.ctr("container", "rm", cid).code != 0, "it runs"
    assert daemon.ctr("task", "checkpoint", cid).code != 0
    daemon.check("task", "kill", "-s", "KILL", cid)
    until(lambda: _status(daemon, cid) == "STOPPED", "its end")
    assert "137" in daemon.ctr("task", "rm", cid).err
    assert not _has_task(daemon, cid)
    daemon.check("container", "rm", cid)
    leftovers.check_none(daemon.look)


def test_tasks_outlive_the_daemon(daemon: RunvContainerd, image: str) -> None:
    cid = _start(daemon, image, "sh", "-c", "echo begun >/began; exec sleep 1000")
    short = _start(daemon, image, "sleep", "3")
    waiting = subprocess.Popen(daemon.command("task", "exec", "--exec-id", "w", cid, "sleep", "60"))
    until(lambda: "sleep 60" in daemon.ctr("task", "exec", "--exec-id", "p", cid, "ps").out, "exec")
    daemon.end(signal.SIGKILL)
    waiting.wait(60)
    until(lambda: len(daemon.shims()) == 2, "both shims")
    daemon.start()
    assert _status(daemon, cid) == "RUNNING"
    ran = daemon.ctr("task", "exec", "--exec-id", "a", cid, "cat", "/began")
    assert ran.out == "begun\n", ran
    until(lambda: _status(daemon, short) == "STOPPED", "the other's end")
    assert daemon.ctr("task", "rm", short).code == 0
    assert _events(daemon, short).count("/tasks/exit") == 1
    daemon.end(signal.SIGTERM)
    daemon.start()
    daemon.check("task", "kill", "-s", "KILL", cid)
    until(lambda: _status(daemon, cid) == "STOPPED", "its end")
    assert "137" in daemon.ctr("task", "rm", cid).err
    leftovers.check_none(daemon.look)


@pytest.mark.parametrize("while_down", [False, True])
def test_a_killed_shim(daemon: RunvContainerd, image: str, while_down: bool) -> None:
    cid = _start(daemon, image, "sleep", "1000")
    waiting = subprocess.Popen(daemon.command("task", "attach", cid), stdin=subprocess.DEVNULL)
    (shim,) = daemon.shims()
    if while_down:
        daemon.end(signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    if while_down:
        daemon.start()
    until(lambda: not _has_task(daemon, cid), "the task is gone")
    assert _events(daemon, cid)[-2:] == ["/tasks/exit", "/tasks/delete"]
    waiting.kill()
    waiting.wait(30)
    leftovers.check_none(daemon.look)
    daemon.check("container", "rm", cid)


def test_a_killed_vm(daemon: RunvContainerd, image: str) -> None:
    cid = _start(daemon, image, "sleep", "1000")
    processes = {p: c for p, c in _vms(daemon).items() if "qemu" in c}
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    until(lambda: _status(daemon, cid) == "STOPPED", "its end")
    assert "137" in daemon.ctr("task", "rm", cid).err
    leftovers.check_none(daemon.look)


def _vms(daemon: RunvContainerd) -> dict[int, Any]:
    """The processes in the control groups of the tests."""
    found = leftovers.vm_processes(daemon.name)
    return {p: Path(f"/proc/{p}/cmdline").read_text() for p in found}


def test_a_task_that_can_not_be_made_leaves_nothing(daemon: RunvContainerd, image: str) -> None:
    cid = daemon.new_id()
    config = daemon.log.with_name("runtime.toml")
    config.write_text("memory = 1\n")
    options = ("--runtime", "io.containerd.runv.v2", "--runtime-config-path", str(config))
    failed = daemon.ctr("run", *options, image, cid, "true")
    assert failed.code != 0
    assert "memory" in failed.err
    leftovers.check_none(daemon.look)
    daemon.ctr("container", "rm", cid)
    other = daemon.ctr("run", "--runtime", "io.containerd.kata.v2", image, daemon.new_id(), "true")
    assert other.code != 0
    assert "io.containerd.kata.v2" in other.err
