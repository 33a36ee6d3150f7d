"""A hyperd whose VMs are of User Mode Linux."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Hyper
from tests.e2e.engine import uml_trouble
from tests.e2e.netns import NetHyperd, two_hosts

UML_TROUBLE = uml_trouble()
pytestmark = [
    pytest.mark.skipif(bool(UML_TROUBLE), reason=UML_TROUBLE),
]


@pytest.fixture(scope="module")
def hyperd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetHyperd]:
    """One with a network of its own."""
    with two_hosts() as (host, _):
        daemon = NetHyperd(tmp_path_factory.mktemp("hyperd"), host)
        daemon.config.write_text("Hypervisor = uml\n")
        with daemon.running():
            yield daemon


def test_hyper_run(hyperd: NetHyperd) -> None:
    hyper = Hyper(hyperd.socket)
    data = os.urandom(50000)
    done = hyper("run", "--rm", "-i", "busybox", "cat", input=data)
    assert (done.stdout, done.stderr, done.returncode) == (data, b"", 0)
    hyper.text("volume", "create", "--driver", "disk", "data")
    hyper.text("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/f")
    assert hyper.text("run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/f") == "kept"
    hyper.text("volume", "rm", "data")
    hyperd.nothing_left()


def test_a_pod_of_two_containers_and_a_restart_of_hyperd(hyperd: NetHyperd) -> None:
    pod = hyperd.outlives_a_restart("uml")
    hyperd.client.stop_pod(pod, timeout=0)
    hyperd.client.remove_pod(pod)
    hyperd.nothing_left()


def test_a_directory_of_the_host_is_refused(hyperd: NetHyperd, tmp_path: Path) -> None:
    hyper = Hyper(hyperd.socket)
    done = hyper("run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "true")
    assert done.returncode == 125
    (line,) = done.stderr.decode().splitlines()
    assert "User Mode Linux (uml) can't give a virtual machine directories" in line
    hyperd.nothing_left()
