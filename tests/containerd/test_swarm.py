"""Docker Swarm over two nodes whose default runtime is runv.

The kernel of a machine may lack IPVS, without which Docker has no virtual addresses of services and
no routing mesh: services are reached by DNS over an overlay network, and by ports of their nodes.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containerd.swarm import Swarm
from tests.engines import leftovers
from tests.engines.commands import until
from tests.engines.docker import IMAGE

pytestmark = pytest.mark.timeout(600)
_WEB = ("sh", "-c", "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www")


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory, runv: Path, archive: Path) -> Iterator[Swarm]:
    found = Swarm(tmp_path_factory.mktemp("swarm"), runv, archive)
    try:
        yield found
    finally:
        found.close()
    for node in found.nodes:
        assert not leftovers.vm_processes(node.name)
        assert not leftovers.groups(node.name)


@pytest.fixture
def network(swarm: Swarm) -> Iterator[str]:
    manager = swarm.nodes[0]
    manager.check("network", "create", "-d", "overlay", "--attachable", "web")
    yield "web"
    until(lambda: manager.docker("network", "rm", "web").code == 0, "the network's end")


@pytest.fixture
def web(swarm: Swarm, network: str) -> Iterator[str]:
    """A service of six tasks over both nodes, each on a port of its node."""
    options = ("--network", network, "--endpoint-mode", "dnsrr", "--hostname", "{{.Task.Slot}}")
    swarm.service("web", 6, *options, "--publish", "mode=host,target=80", IMAGE, *_WEB)
    yield "web"
    swarm.nodes[0].docker("service", "rm", "web")
    until(lambda: not swarm.containers(0, "web"), "the service's end")


def _published(swarm: Swarm, number: int) -> set[str]:
    """What the tasks on a node say at the ports that they have there."""
    node = swarm.nodes[number]
    said = set()
    for container in swarm.containers(number, "web"):
        port = node.check("port", container, "80").split(":")[-1].strip()
        said.add(node.namespace.fetch(f"http://127.0.0.1:{port}/").strip())
    return said


def test_a_service_scaled_and_with_a_lost_node(swarm: Swarm, web: str) -> None:
    manager, (first, second) = swarm.nodes[0], swarm.ids
    swarm.settled(web, 6, first, second)
    here, there = _published(swarm, 0), _published(swarm, 1)
    assert len(here) == len(there) == 3
    assert here | there == set("123456")

    boots = {
        swarm.nodes[number].check("exec", container, "cat", "/proc/sys/kernel/random/boot_id")
        for number in range(2)
        for container in swarm.containers(number, web)
    }
    assert len(boots) == 6

    one = swarm.containers(0, web)[0]
    asked = manager.check("exec", one, "nslookup", f"tasks.{web}").split("Name:")
    addresses = {line.split()[-1] for part in asked[1:] for line in part.splitlines()[1:2]}
    assert len(addresses) == 6, asked
    answers = {
        manager.check("exec", one, "wget", "-q", "-O", "-", f"http://{a}/") for a in addresses
    }
    assert {answer.strip() for answer in answers} == set("123456")

    manager.check("service", "scale", "-d", f"{web}=8")
    swarm.settled(web, 8, first, second)

    swarm.lose(1)
    swarm.settled(web, 8, first)
    assert len(_published(swarm, 0)) == 8
