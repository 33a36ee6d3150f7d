"""Docker's networks in front of a container: bridges, published ports, names, later changes."""

import re
import sys
from typing import Any

from tests.engines.commands import Result, run, until
from tests.engines.docker import IMAGE, Docker

SLEEP = ("sleep", "1000")
SERVER = "mkdir -p /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www"


# Debian's static busybox has a wget that crashes.
GET = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 9 {} 80"
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
SEND = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"datagram\\n", ("127.0.0.1", 9000))
"""


def python(docker: Docker, program: str, *argv: str) -> Result:
    """A program run in the engine's namespace."""
    return run(*docker.namespace.inside(sys.executable, "-I", "-c", program, *argv))


def fetch(docker: Docker, url: str) -> str:
    """What a web server says, asked from the engine's namespace."""
    until(lambda: python(docker, FETCH, url).code == 0, url, 30)
    return python(docker, FETCH, url).out[:-1]


def addresses(docker: Docker, name: str) -> set[str]:
    """The addresses that Docker gave a container."""
    networks: dict[str, Any] = docker.inspect(name)["NetworkSettings"]["Networks"]
    return {n["IPAddress"] for n in networks.values()}


def test_the_default_bridge(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    (address,) = addresses(docker, name)
    shown = docker.check("exec", name, "ip", "addr", "show", "eth0")
    assert address in shown
    assert docker.inspect(name)["NetworkSettings"]["MacAddress"] in shown
    assert "default via 172.17.0.1 dev eth0" in docker.check("exec", name, "ip", "route")
    docker.check("exec", name, "ping", "-c", "1", "-w", "20", "172.17.0.1")


def test_published_ports(docker: Docker) -> None:
    docker.start("-p", "8080:80", "-p", "127.0.0.1:8081:80", IMAGE, "sh", "-c", SERVER)
    assert fetch(docker, "http://127.0.0.1:8080/") == "page\n"
    assert fetch(docker, "http://172.17.0.1:8080/") == "page\n"
    assert fetch(docker, "http://127.0.0.1:8081/") == "page\n"


def test_a_published_udp_port(docker: Docker) -> None:
    name = docker.start("-p", "9000:9000/udp", IMAGE, "udp_once")

    def sent() -> bool:
        python(docker, SEND)
        return "datagram" in docker.check("logs", name)

    until(sent, "the datagram", 30)


def test_a_lot_of_data(docker: Docker) -> None:
    script = "mkdir /www; dd if=/dev/zero of=/www/big bs=64k count=64; exec httpd -f -p 80 -h /www"
    docker.start("-p", "8080:80", IMAGE, "sh", "-c", script)
    assert len(fetch(docker, "http://127.0.0.1:8080/big")) == 4 << 20


def test_names_on_a_network(docker: Docker) -> None:
    docker.check("network", "create", "net1")
    docker.start("--network", "net1", "--name", "one", "--network-alias", "uno", IMAGE, *SLEEP)
    docker.start("--network", "net1", "--name", "two", IMAGE, *SLEEP)
    for source, target in (("one", "two"), ("two", "one"), ("two", "uno"), ("one", "one")):
        docker.check("exec", source, "ping", "-c", "1", "-w", "20", target)
    assert docker.docker("exec", "one", "ping", "-c", "1", "-w", "5", "nobody").code != 0


def test_an_internal_network_and_its_options(docker: Docker) -> None:
    options = ("--internal", "--subnet", "10.77.0.0/24", "-o", "com.docker.network.driver.mtu=1300")
    docker.check("network", "create", *options, "net2")
    done = docker.run("--network", "net2", "--ip", "10.77.0.9", IMAGE, "ip", "addr", "show", "eth0")
    assert "10.77.0.9/24" in done.out
    assert "mtu 1300" in done.out


def test_a_network_that_is_connected_later(docker: Docker) -> None:
    docker.check("network", "create", "net3")
    docker.start("--network", "net3", "--name", "other", IMAGE, *SLEEP)
    name = docker.start("--name", "late", IMAGE, *SLEEP)
    docker.check("network", "connect", "net3", name)
    until(
        lambda: docker.docker("exec", name, "ping", "-c", "1", "-w", "3", "other").code == 0,
        "the other container by name",
        40,
    )
    found = docker.check("exec", name, "ip", "addr")
    assert all(address in found for address in addresses(docker, name))
    docker.check("network", "disconnect", "bridge", name)
    until(
        lambda: len(re.findall("eth[0-9]:", docker.check("exec", name, "ip", "addr"))) == 1,
        "the first interface is gone",
        20,
    )
    until(
        lambda: docker.docker("exec", name, "ping", "-c", "1", "-w", "3", "other").code == 0,
        "the other container by name, by the interface that is left",
        20,
    )


def test_no_network(docker: Docker) -> None:
    links = docker.run("--network", "none", IMAGE, "ip", "addr").out
    assert "127.0.0.1" in links
    assert "eth0" not in links


def test_the_host_s_network(docker: Docker) -> None:
    assert "10.0.2.15" in docker.run("--network", "host", IMAGE, "ip", "addr").out


def test_another_container_s_network(docker: Docker) -> None:
    name = docker.start("--hostname", "shared", IMAGE, "sh", "-c", SERVER)
    done = docker.run("--network", f"container:{name}", IMAGE, "sh", "-c", GET.format("127.0.0.1"))
    assert done.out.endswith("page\n"), done
    assert docker.state(name)["Running"]


def test_links_between_containers(docker: Docker) -> None:
    docker.start("--name", "web", IMAGE, "sh", "-c", SERVER)
    done = docker.run("--link", "web:www", IMAGE, "sh", "-c", GET.format("www"))
    assert done.out.endswith("page\n"), done


def test_ipv6(docker: Docker) -> None:
    options = ("--ipv6", "--subnet", "fd00:77::/64")
    docker.check("network", "create", *options, "net6")
    name = docker.start("--network", "net6", IMAGE, *SLEEP)
    networks = docker.inspect(name)["NetworkSettings"]["Networks"]
    assert networks["net6"]["GlobalIPv6Address"] in docker.check("exec", name, "ip", "addr")
    docker.check("exec", name, "ping", "-c", "1", "-w", "20", networks["net6"]["IPv6Gateway"])
