"""Signals, stops, restarts, health checks, and what happens when a part of a VM is killed."""

import os
import signal
import time

import pytest

from tests.engines.commands import until
from tests.engines.docker import IMAGE, Docker

TRAPS = """
for s in HUP INT QUIT USR1 USR2 ALRM WINCH CONT; do trap "echo got $s" $s; done
trap 'echo bye; exit 9' TERM
echo ready
while :; do sleep 0.2; done
"""


def ready(docker: Docker, name: str) -> None:
    """Wait until the script has set its traps."""
    said(docker, name, "ready")


def said(docker: Docker, name: str, text: str) -> None:
    """Wait until a container has said `text`."""
    until(lambda: text in docker.check("logs", name), text)


def test_signals(docker: Docker) -> None:
    name = docker.start(IMAGE, "sh", "-c", TRAPS)
    ready(docker, name)
    for signame in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "WINCH", "CONT"):
        docker.check("kill", "-s", signame, name)
        said(docker, name, f"got {signame}")
    docker.check("kill", "-s", "15", name)
    assert docker.check("wait", name) == "9\n"
    assert docker.check("logs", name).endswith("bye\n")


def test_a_real_time_signal(docker: Docker) -> None:
    name = docker.start("--init", IMAGE, "sleep", "1000")
    docker.check("kill", "-s", "RTMIN+3", name)
    assert docker.check("wait", name) == f"{128 + 37}\n"


def test_kill(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    docker.check("kill", name)
    assert docker.check("wait", name) == "137\n"
    assert docker.state(name)["OOMKilled"] is False
    assert docker.docker("kill", name).code == 1


def test_stop(docker: Docker) -> None:
    name = docker.start(IMAGE, "sh", "-c", TRAPS)
    ready(docker, name)
    docker.check("stop", name)
    assert docker.state(name)["ExitCode"] == 9
    started = time.monotonic()
    stubborn = docker.start(IMAGE, "sh", "-c", "trap '' TERM; echo ready; sleep 1000")
    ready(docker, stubborn)
    docker.check("stop", "-t", "2", stubborn)
    assert docker.state(stubborn)["ExitCode"] == 137
    assert time.monotonic() - started > 2


def test_the_stop_signal_of_the_container(docker: Docker) -> None:
    name = docker.start("--stop-signal", "USR1", IMAGE, "sh", "-c", f"{TRAPS}")
    ready(docker, name)
    docker.check("stop", "-t", "1", name)
    assert "got USR1" in docker.check("logs", name)


def test_restart_keeps_the_files(docker: Docker) -> None:
    name = docker.start(
        IMAGE, "sh", "-c", "echo start >> /log; trap 'exit' TERM; sleep 1000 & wait"
    )
    docker.check("restart", "-t", "5", name)
    assert docker.check("exec", name, "cat", "/log") == "start\nstart\n"


def test_pause(docker: Docker) -> None:
    name = docker.start(IMAGE, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    until(lambda: docker.check("logs", name), "ticks")
    docker.check("pause", name)
    assert docker.state(name)["Status"] == "paused"
    time.sleep(0.5)
    before = docker.check("logs", name)
    time.sleep(1)
    assert docker.check("logs", name) == before
    docker.check("unpause", name)
    until(lambda: docker.check("logs", name) != before, "ticks again")
    docker.check("pause", name)
    docker.check("rm", "-f", name)


def test_restart_on_failure(docker: Docker) -> None:
    name = docker.start("--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 4")
    until(lambda: docker.state(name)["Status"] == "exited", "the last restart", 60)
    assert docker.check("logs", name) == "run\n" * 3
    assert docker.inspect(name)["RestartCount"] == 2
    assert docker.state(name)["ExitCode"] == 4


@pytest.mark.parametrize("part", ["vmm", "sandbox"])
def test_restart_always_after_a_part_was_killed(docker: Docker, part: str) -> None:
    name = docker.start("--restart", "always", IMAGE, "sleep", "1000")
    pid = docker.state(name)["Pid"]
    os.kill(getattr(docker, part)(name), signal.SIGKILL)
    until(
        lambda: docker.state(name)["Running"] and docker.state(name)["Pid"] not in (0, pid),
        "the restart",
        60,
    )
    assert docker.check("exec", name, "echo", "again") == "again\n"
    docker.check("rm", "-f", name)


@pytest.mark.parametrize("part", ["vmm", "sandbox"])
def test_a_killed_part_is_a_container_s_end(docker: Docker, part: str) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    client = docker.client("exec", name, "sleep", "1000")
    time.sleep(1)
    os.kill(getattr(docker, part)(name), signal.SIGKILL)
    assert docker.check("wait", name) == "137\n"
    client.communicate(timeout=30)
    assert client.returncode != 0
    docker.check("rm", name)


def test_a_killed_proxy_is_a_container_s_end(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    os.kill(docker.state(name)["Pid"], signal.SIGKILL)
    assert docker.check("wait", name) == "137\n"
    docker.check("rm", name)


def test_an_exec_ends_with_a_killed_proxy(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    client = docker.client("exec", name, "sh", "-c", "echo here; exec sleep 1000")
    assert client.stdout is not None
    assert client.stdout.readline() == b"here\n"
    os.kill(docker.state(name)["Pid"], signal.SIGKILL)
    client.communicate(timeout=60)
    assert client.returncode == 137
    docker.check("rm", name)


def test_removal_by_force(docker: Docker) -> None:
    names = [docker.start(IMAGE, "sleep", "1000") for _ in range(3)]
    docker.check("rm", "-f", *names)
    assert docker.check("ps", "-aq") == ""


def test_health(docker: Docker) -> None:
    options = ("--health-cmd", "test -e /tmp/ok", "--health-interval", "1s")
    more = ("--health-retries", "2", "--health-timeout", "20s")
    name = docker.start(*options, *more, IMAGE, "sleep", "1000")
    until(lambda: docker.state(name)["Health"]["Status"] == "unhealthy", "unhealthy", 60)
    docker.check("exec", name, "touch", "/tmp/ok")
    until(lambda: docker.state(name)["Health"]["Status"] == "healthy", "healthy", 60)


def test_a_container_that_ends_at_once_many_times(docker: Docker) -> None:
    for _ in range(5):
        assert docker.run(IMAGE, "true").code == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_containers_outlive_dockerd(docker: Docker, signum: int) -> None:
    name = docker.start(IMAGE, "sh", "-c", "while :; do echo tick; sleep 0.2; done")
    boot = docker.check("exec", name, "cat", "/proc/sys/kernel/random/boot_id")
    docker.restart(signum)
    assert docker.state(name)["Running"]
    assert docker.check("exec", name, "cat", "/proc/sys/kernel/random/boot_id") == boot
    before = docker.check("logs", name)
    until(lambda: docker.check("logs", name) != before, "the log goes on", 30)
    docker.check("stop", "-t", "0", name)
    assert docker.state(name)["ExitCode"] == 137
