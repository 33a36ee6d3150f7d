"""dockerd on runv-containerd: every container in a VM, and no other runtime."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containerd.runv_containerd import RunvContainerd, running
from tests.engines import leftovers
from tests.engines.commands import until
from tests.engines.docker import Docker
from tests.engines.docker_cases import check_build
from tests.engines.needs import need

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunvContainerd]:
    """runv-containerd, with nothing left of tasks in the end."""
    with running(tmp_path_factory.mktemp("daemon")) as one:
        yield one
        leftovers.check_none(one.look)


@pytest.fixture(scope="module")
def docker(
    tmp_path_factory: pytest.TempPathFactory, runv: Path, archive: Path, daemon: RunvContainerd
) -> Iterator[Docker]:
    """A dockerd that uses it."""
    need("dockerd", "docker", "ip", "iptables")
    engine = Docker(tmp_path_factory.mktemp("docker"), runv, archive, containerd=daemon.socket)
    with leftovers.checked(engine):
        yield engine


def test_run_exec_logs_stop(docker: Docker) -> None:
    kernel = docker.run("box", "uname", "-r")
    assert kernel.code == 0, kernel
    assert kernel.out.strip() != os.uname().release
    assert docker.run("-i", "box", "sh", "-c", "cat; exit 4", stdin=b"in").code == 4
    docker.start("--name", "box1", "box", "sh", "-c", "echo out; echo err >&2; exec sleep 1000")
    assert docker.check("exec", "box1", "hostname") == docker.inspect("box1")["Id"][:12] + "\n"
    logs = docker.docker("logs", "box1")
    assert (logs.out, logs.err) == ("out\n", "err\n")
    docker.check("stop", "-t", "1", "box1")
    assert docker.state("box1")["ExitCode"] == 137
    docker.check("start", "box1")
    assert docker.state("box1")["Running"]
    docker.check("rm", "-f", "box1")
    assert docker.run("box", "none").code == 127


def test_build(docker: Docker, tmp_path: Path) -> None:
    check_build(docker, tmp_path)


def test_runv_containerd_is_killed_under_it(docker: Docker, daemon: RunvContainerd) -> None:
    docker.start("--name", "box2", "box", "sh", "-c", "while :; do echo on; sleep 0.3; done")
    daemon.end(signal.SIGKILL)
    daemon.start()
    until(lambda: docker.docker("exec", "box2", "echo", "hi").out == "hi\n", "exec works again")
    before = docker.docker("logs", "box2").out.count("on")
    until(lambda: docker.docker("logs", "box2").out.count("on") > before, "the log goes on")
    docker.check("kill", "box2")
    until(lambda: not docker.state("box2")["Running"], "its end")
    docker.check("rm", "box2")
