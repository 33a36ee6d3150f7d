"""Networks and published ports of hyperd, in network namespaces: a host, and another beside it."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, Conflict, NotFound, NotSupported
from hypercontainer.sandbox import read_state
from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import wait_until
from tests.e2e.netns import HOST, HOST6, PEER, PEER6, Namespace, NetHyperd, two_hosts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="hyperd needs root")

MEGABYTE = os.urandom(1 << 20)
GATEWAY = "192.168.123.1"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    with two_hosts() as both:
        yield both


@pytest.fixture(scope="module")
def peer(hosts: tuple[Namespace, Namespace]) -> Namespace:
    """Another host."""
    return hosts[1]


@pytest.fixture(scope="module")
def daemon(
    hosts: tuple[Namespace, Namespace], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NetHyperd]:
    hyperd = NetHyperd(tmp_path_factory.mktemp("networks"), hosts[0])
    with hyperd.running():
        yield hyperd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The `files` of a container that has the program echo_server."""
    source = Path(__file__).with_name("echo_server.c")
    program = tmp_path_factory.mktemp("echo") / "echo_server"
    compiler = ["musl-gcc", "-static", "-Os", "-s", "-o", str(program), str(source)]
    subprocess.run(compiler, check=True, timeout=60)
    content = base64.b64encode(program.read_bytes()).decode()
    detail = {"name": "echo", "encoding": "base64", "content": content}
    return [{"path": "/bin/echo_server", "perm": "0755", "detail": detail}]


def serving(daemon: NetHyperd, files: list[dict[str, Any]], *ports: str, **keys: Any) -> str:
    """A container whose echo server answers on ports."""
    container = daemon.run("echo_server", *ports, files=files, **keys)
    wait_until(lambda: "ready" in daemon.output_of(container), "the echo server")
    return container


def echoed(namespace: Namespace, host: str, port: int, data: bytes = MEGABYTE) -> tuple[str, str]:
    """The addresses from which TCP and UDP came, once all data came back."""
    answer = namespace.tcp(host, port, data)
    source, _, rest = answer.partition(b"\n")
    assert rest == data
    datagram = namespace.udp(host, port, b"ping")
    source_udp, _, rest = datagram.partition(b"\n")
    assert rest == b"ping"
    return source.decode(), source_udp.decode()


def both(host_port: int, container_port: int = 80, **more: Any) -> list[dict[str, Any]]:
    """A port published by TCP and UDP."""
    port = {"containerPort": container_port, "hostPort": host_port, **more}
    return [port, {**port, "protocol": "udp"}]


@contextlib.contextmanager
def name_server(namespace: Namespace) -> Iterator[None]:
    """A name server that gives every name the address 198.51.100.7."""
    sock = namespace.socket(PEER, socket.SOCK_DGRAM)
    sock.bind((PEER, 53))
    sock.settimeout(None)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            query, client = sock.recvfrom(4096)
            header = query[:2] + bytes.fromhex("8180000100010000 0000")
            record = bytes.fromhex("c00c 0001 0001 0000003c 0004 c6336407")
            sock.sendto(header + query[12:] + record, client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        namespace.udp(PEER, 53, bytes(12))
        thread.join()
        sock.close()


def refused(namespace: Namespace, host: str, port: int) -> bool:
    with namespace.socket(host) as sock:
        sock.settimeout(2.0)
        try:
            sock.connect((host, port))
        except (ConnectionRefusedError, TimeoutError):
            return True
    return False


def rules(namespace: Namespace) -> str:
    return namespace.run("nft", "list", "ruleset")


def test_published_ports_are_reached_from_everywhere(
    daemon: NetHyperd, peer: Namespace, server: list[dict[str, Any]]
) -> None:
    host = daemon.namespace
    web = serving(daemon, server, "80", pod_id="web", pod_portmappings=both(8080))
    assert echoed(host, "127.0.0.1", 8080) == (GATEWAY, GATEWAY)
    assert echoed(host, "::1", 8080) == (GATEWAY, GATEWAY)
    assert echoed(host, HOST, 8080) == (HOST, HOST)
    assert echoed(peer, HOST, 8080) == (PEER, PEER)
    assert echoed(peer, HOST6, 8080) == (GATEWAY, GATEWAY)
    assert echoed(host, daemon.address_of(web), 80)
    assert refused(peer, daemon.address_of(web), 80)
    other = daemon.run("sleep", "1000", pod_id="other")
    ask = f"echo hi | nc {HOST} 8080; echo hi | nc web 80; nslookup web | tail -n 3; nslookup {{}}"
    code, output = daemon.execute(other, "sh", "-c", ask.format(daemon.address_of(web)))
    assert code == 0 and output.count("hi\n") == 2, output
    assert daemon.address_of(web) in output and "name = web.bridge" in output
    itself = daemon.execute(web, "sh", "-c", f"echo hi | nc -w 9 {HOST} 8080")
    assert itself == (0, f"{GATEWAY}\nhi\n")

    host.run("nft", "flush", "ruleset")
    # The sandbox passes on what the rules do not cover any more.
    assert echoed(host, "127.0.0.1", 8080) == (GATEWAY, GATEWAY)
    assert daemon.process is not None
    daemon.end(signal.SIGKILL)
    code_of_names = daemon.state / "names.json"
    assert json.loads(code_of_names.read_text())["networks"]
    assert host.tcp("127.0.0.1", 8080, b"still").endswith(b"still")
    daemon.start()
    assert echoed(peer, HOST, 8080) == (PEER, PEER)
    assert daemon.settings_of(web)["Ports"]["80/tcp"][0] == {
        "HostIp": "0.0.0.0",
        "HostPort": "8080",
    }
    assert daemon.execute(other, "nslookup", "web")[0] == 0
    for container in (web, other):
        daemon.client.remove_container(container, force=True)
    wait_until(lambda: "dport" not in rules(host), "the end of the rules")
    assert not [link for link in host.links() if link.startswith("hyt-")]
    assert refused(host, "127.0.0.1", 8080)


def test_ports_while_it_runs(
    daemon: NetHyperd, peer: Namespace, server: list[dict[str, Any]]
) -> None:
    host, client = daemon.namespace, daemon.client
    container = serving(
        daemon,
        server,
        *(str(port) for port in range(80, 84)),
        pod_id="ports",
        pod_portmappings=[
            {"containerPort": "80-82", "hostPort": "8000-8002"},
            {"containerPort": 83},
            {"containerPort": 83, "hostPort": 9000, "hostIP": "127.0.0.1"},
        ],
    )
    for port in (8000, 8001, 8002):
        assert peer.tcp(HOST, port, b"x").endswith(b"\nx")
    (random_port,) = [p["hostPort"] for p in client.list_ports("ports") if not p["hostIP"]][3:]
    assert peer.tcp(HOST, random_port, b"x").endswith(b"\nx")
    assert host.tcp("127.0.0.1", 9000, b"x").endswith(b"\nx")
    assert refused(peer, HOST, 9000)
    hyper = Hyper(daemon.socket)
    hyper.text("ports", "add", "-p", "8085:80", "-p", "8085:80/udp", "ports")
    assert echoed(peer, HOST, 8085) == (PEER, PEER)
    assert "8085" in hyper.text("ports", "ls", "ports")
    assert {p["PublicPort"] for p in client.list_containers()[0]["Ports"]} >= {8085, 9000}
    assert "0.0.0.0:8000-8002->80-82/tcp" in hyper.text("list")
    with pytest.raises(Conflict, match="already"):
        client.add_ports("ports", [{"containerPort": 81, "hostPort": 8085}])
    hyper.text("ports", "delete", "-p", "80", "ports")
    assert refused(peer, HOST, 8085) and refused(host, "127.0.0.1", 8085)
    assert peer.udp(HOST, 8085, b"x").endswith(b"\nx")
    with pytest.raises(NotFound, match="has not published 80/tcp"):
        client.delete_ports("ports", [{"containerPort": 80}])
    client.remove_container(container, force=True)


def test_ports_wait_for_a_network(
    daemon: NetHyperd, peer: Namespace, server: list[dict[str, Any]]
) -> None:
    """A pod that left its networks while it was stopped listens again once it is in one."""
    host, client, hyper = daemon.namespace, daemon.client, Hyper(daemon.socket)
    container = serving(daemon, server, "80", pod_id="apart", pod_portmappings=both(8070))
    client.stop_container(container, timeout=0)
    hyper.text("network", "disconnect", "bridge", "apart")
    client.start_container(container)
    assert refused(host, "127.0.0.1", 8070) and "8070" not in rules(host)
    assert client.list_containers()[0]["Ports"] == []
    with host.socket("127.0.0.1") as listener:
        listener.bind(("127.0.0.1", 8070))
        listener.listen()
        with pytest.raises(Conflict, match=r"8070/tcp: port is already allocated"):
            client.connect_network("bridge", container)
        assert daemon.execute(container, "ip", "link", "show", "eth0")[0] != 0
    hyper.text("network", "connect", "bridge", "apart")
    assert "0.0.0.0:8070->80/tcp" in hyper.text("list")
    wait_until(lambda: not refused(peer, HOST, 8070), "the port")
    assert echoed(peer, HOST, 8070) == (PEER, PEER)
    client.remove_container(container, force=True)
    assert refused(host, "127.0.0.1", 8070)


def test_a_port_that_is_taken_is_found_before_the_start(daemon: NetHyperd) -> None:
    with daemon.namespace.socket("127.0.0.1") as listener:
        listener.bind(("127.0.0.1", 7000))
        listener.listen()
        container = daemon.create(
            "true", pod_portmappings=[{"containerPort": 80, "hostPort": 7000}]
        )
        with pytest.raises(Conflict, match=r"7000/tcp: port is already allocated"):
            daemon.client.start_container(container)
    assert daemon.leftovers() == []
    assert daemon.state_of(container)["Error"].startswith("publish 0.0.0.0:7000/tcp: port is")
    daemon.client.start_container(container)
    daemon.client.remove_container(container, force=True)


def test_a_udp_client_finds_the_next_container(
    daemon: NetHyperd, peer: Namespace, server: list[dict[str, Any]]
) -> None:
    def answered(sock: socket.socket) -> bool:
        sock.send(b"ping")
        with contextlib.suppress(TimeoutError, ConnectionRefusedError):
            return sock.recv(4096) == f"{PEER}\nping".encode()
        return False

    with peer.socket(HOST, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.connect((HOST, 8053))
        for auto_remove in (True, False):
            container = serving(
                daemon, server, "53", pod_portmappings=both(8053, 53), pod_autoRemove=auto_remove
            )
            wait_until(lambda: answered(sock), "an answer to the same client")
            daemon.client.remove_container(container, force=True)


def test_networks_are_isolated_and_resolve_names(
    daemon: NetHyperd, peer: Namespace, server: list[dict[str, Any]]
) -> None:
    host, client = daemon.namespace, daemon.client
    hyper = Hyper(daemon.socket)
    hyper.text("network", "create", "--subnet=10.9.0.0/24", "--subnet=fd09::/64", "front")
    hyper.text("network", "create", "--internal", "--mtu=1400", "--label=a=b", "back")
    front = client.inspect_network("front")
    assert front["IPAM"]["Config"][0] == {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1"}
    assert (
        hyper.text("network", "ls", "--filter", "label=a", "-q")
        == (client.inspect_network("back")["Id"][:12])
    )
    web = serving(
        daemon,
        server,
        "80",
        pod_id="www",
        pod_networks=[{"name": "front", "ip": "10.9.0.80", "ip6": "fd09::80", "aliases": ["shop"]}],
        pod_portmappings=both(8090),
        pod_extraHosts=["gate:host-gateway"],
        pod_dns=[PEER],
        pod_dnsSearch=["example.org"],
    )
    db = daemon.run("sleep", "1000", pod_id="db", pod_network="back")
    settings = daemon.settings_of(web)["Networks"]["front"]
    assert (settings["IPAddress"], settings["GlobalIPv6Address"]) == ("10.9.0.80", "fd09::80")
    _, hosts = daemon.execute(web, "cat", "/etc/hosts", "/etc/resolv.conf")
    assert "10.9.0.1\tgate" in hosts and "10.9.0.80\twww" in hosts
    assert "nameserver 10.9.0.1\nsearch example.org" in hosts
    assert echoed(peer, HOST6, 8090) == (PEER6, PEER6)
    assert echoed(host, "::1", 8090)[0] in ("10.9.0.1", "fd09::1")

    def reaches(target: str) -> bool:
        return daemon.execute(db, "sh", "-c", f"echo x | nc -w 3 {target} 80 | grep -q x")[0] == 0

    assert not reaches("10.9.0.80") and not reaches("www")
    assert daemon.execute(db, "ping", "-c1", "-W2", PEER)[0] != 0
    assert "mtu 1400" in daemon.execute(db, "ip", "link", "show", "eth0")[1]
    hyper.text("network", "connect", "--ip=10.9.0.33", "front", "db")
    assert reaches("10.9.0.80") and reaches("shop") and reaches("www.front")
    assert daemon.execute(db, "ping", "-c1", "-W5", PEER)[0] == 0
    assert "10.9.0.33" in daemon.execute(web, "nslookup", "db.front")[1]
    with name_server(peer):
        assert "198.51.100.7" in daemon.execute(web, "nslookup", "out.example.net")[1]
    hyper.text("network", "disconnect", "front", "db")
    assert not reaches("10.9.0.80")
    assert daemon.execute(db, "ip", "link", "show", "eth1")[0] != 0
    with pytest.raises(Conflict, match="network front is in use by www"):
        client.remove_network("front")

    vmm = read_state(daemon.state / "sandboxes/www")
    assert vmm is not None
    os.kill(int(vmm["vmm_pid"]), signal.SIGKILL)
    client.wait(web)
    wait_until(lambda: "8090" not in rules(host), "the end of the rules")
    for container in (web, db):
        client.remove_container(container, force=True)
    assert hyper.text("network", "prune", "-f") == "Deleted Networks:\nback\nfront"
    assert [n["Name"] for n in client.list_networks()] == ["bridge"]
    assert {name for name in host.links() if name.startswith("hy")} <= {"hyper0"}
    assert "hyb-" not in rules(host)


@pytest.mark.parametrize(
    ("request_", "kind", "says"),
    [
        ({"name": "bridge"}, Conflict, "the name is hyperd's own"),
        ({"name": "a b"}, BadRequest, "not a valid name"),
        ({"name": "x", "subnets": [{"Subnet": "10.77.0.0/16"}]}, Conflict, "overlaps 10.77.0.0/24"),
        ({"name": "x", "subnets": [{"Subnet": "192.168.0.0/16"}]}, Conflict, "of network bridge"),
        (
            {"name": "x", "subnets": [{"Subnet": "10.5.0.0/24", "Gateway": "10.6.0.1"}]},
            BadRequest,
            "outside of the subnet",
        ),
        ({"name": "x", "options": {"com.docker.network.driver.mtu": "9"}}, BadRequest, "576"),
    ],
)
def test_bad_networks_make_nothing(
    daemon: NetHyperd, request_: dict[str, Any], kind: type[Exception], says: str
) -> None:
    before = daemon.namespace.links()
    with pytest.raises(kind, match=says):
        daemon.client.create_network(**request_)
    assert daemon.namespace.links() == before


def test_bad_wishes_of_pods(daemon: NetHyperd) -> None:
    daemon.client.create_network("small", subnets=[{"Subnet": "10.5.0.0/30"}])
    try:
        with pytest.raises(Conflict, match="network with name small already exists"):
            daemon.client.create_network("small")
        for keys, kind, says in (
            ({"pod_network": "nosuch"}, NotFound, "no such network: nosuch"),
            ({"pod_networks": [{"name": "small", "ip": "10.6.0.2"}]}, BadRequest, "outside of the"),
            ({"pod_networks": [{"name": "small", "ip": "10.5.0.1"}]}, Conflict, "is the gateway"),
            (
                {"pod_networks": [{"name": "small", "ip6": "fd00::5"}]},
                BadRequest,
                "no subnet of IPv6",
            ),
        ):
            with pytest.raises(kind, match=says):
                daemon.create("true", **keys)
        first = daemon.run("sleep", "1000", pod_network="small")
        second = daemon.create("true", pod_network="small")
        with pytest.raises(Conflict, match="network small has no free address left"):
            daemon.client.start_container(second)
        for container in (first, second):
            daemon.client.remove_container(container, force=True)
    finally:
        daemon.client.remove_network("small")


def test_without_the_firewall_ports_are_passed_on(
    tmp_path: Path, server: list[dict[str, Any]]
) -> None:
    with two_hosts() as (host, other):
        hyperd = NetHyperd(tmp_path, host)
        hyperd.config.write_text("DisableIptables = true\nBridgeIP = 10.8.0.1/24\n")
        try:
            hyperd.start()
            hyperd.load_image()
            serving(hyperd, server, "80", pod_portmappings=both(8080))
            assert echoed(host, "127.0.0.1", 8080) == ("10.8.0.1", "10.8.0.1")
            assert echoed(other, HOST, 8080) == ("10.8.0.1", "10.8.0.1")
            assert rules(host) == ""
        finally:
            hyperd.close()


def test_services_spread_connections_over_backends(
    daemon: NetHyperd, server: list[dict[str, Any]], hyperkernel: None
) -> None:
    backends = [serving(daemon, server, str(port)) for port in (8001, 8002)]
    hosts = [
        {"hostIP": daemon.address_of(container), "hostPort": port}
        for container, port in zip(backends, (8001, 8002), strict=True)
    ]
    service = {"serviceIP": "10.254.0.1", "servicePort": 80, "hosts": hosts}
    container = daemon.run("sleep", "1000", pod_id="client", pod_services=[service])
    ask = "for i in 1 2 3 4; do echo x | nc 10.254.0.1 80; done"
    for _ in range(2):
        code, output = daemon.execute(container, "sh", "-c", ask)
        assert code == 0 and output.count(daemon.address_of(container)) == 4, output
        # Either is enough for half of them.
        daemon.client.update_services("client", [{**service, "hosts": hosts[:1]}])
    daemon.client.kill_container(backends[1])
    assert daemon.execute(container, "sh", "-c", ask)[1].count("x") == 4
    assert daemon.client.list_services("client")[0]["hosts"] == hosts[:1]
    daemon.client.update_services("client", [])
    assert daemon.execute(container, "sh", "-c", "echo x | nc -w 1 10.254.0.1 80")[0] != 0
    for each in (*backends, container):
        daemon.client.remove_container(each, force=True)


def test_without_rights_there_is_the_user_mode_network(
    tmp_path: Path, server: list[dict[str, Any]]
) -> None:
    """As in a container of an engine that gives hyperd no right to make bridges."""
    with two_hosts() as (host, _):
        hyperd = WeakHyperd(tmp_path, host)
        try:
            hyperd.start()
            hyperd.load_image()
            assert "has not the capability NET_ADMIN" in hyperd.log.read_text()
            container = serving(hyperd, server, "80", pod_portmappings=both(8080))
            assert hyperd.client.inspect_container(container)["HostConfig"]["NetworkMode"] == "user"
            assert echoed(host, "127.0.0.1", 8080) == ("10.0.2.2", "10.0.2.2")
            hyperd.client.delete_ports(container, [{"containerPort": 80}])
            assert refused(host, "127.0.0.1", 8080)
            assert rules(host) == ""
            with pytest.raises(NotSupported, match="has not the capability NET_ADMIN"):
                hyperd.client.create_network("x")
            with pytest.raises(NotSupported, match="has not the capability NET_ADMIN"):
                hyperd.create("true", pod_network="bridge")
        finally:
            hyperd.close()


class WeakHyperd(NetHyperd):
    """A hyperd without the capability NET_ADMIN."""

    def command(self, *flags: str) -> list[str]:
        """Its command line."""
        drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
        command = super().command(*flags)
        return [*command[:2], *drop, *command[2:]]


def test_rules_beside_dockers(tmp_path: Path, server: list[dict[str, Any]]) -> None:
    """Docker drops what it forwards and does not know, but for what DOCKER-USER accepts."""
    with two_hosts() as (host, other):
        chain = "{ type filter hook forward priority 0; policy drop; }"
        host.run("nft", "add table ip filter; add chain ip filter DOCKER-USER")
        host.run("nft", f"add chain ip filter FORWARD {chain}")
        host.run("nft", "add rule ip filter FORWARD jump DOCKER-USER")
        hyperd = NetHyperd(tmp_path, host)
        try:
            hyperd.start()
            hyperd.load_image()
            serving(hyperd, server, "80", pod_portmappings=both(8080))
            assert echoed(other, HOST, 8080) == (PEER, PEER)
            hyperd.client.create_network("n")
            assert "hyb-" in host.run("nft", "list", "chain", "ip", "filter", "DOCKER-USER")
            hyperd.client.remove_network("n")
            assert "hyb-" not in host.run("nft", "list", "chain", "ip", "filter", "DOCKER-USER")
        finally:
            hyperd.close()


def test_without_a_default_network_the_host_is_left_alone(
    tmp_path: Path, server: list[dict[str, Any]]
) -> None:
    with two_hosts() as (host, _):
        hyperd = NetHyperd(tmp_path, host)
        hyperd.bridge = "none"
        try:
            hyperd.start()
            hyperd.load_image()
            for port in (8080, 8081):
                container = hyperd.run("true", pod_network="user", pod_portmappings=both(port))
                hyperd.client.wait(container)
                hyperd.client.remove_container(container)
            assert rules(host) == "" and host.links() == ["lo", "eth0"]
            hyperd.client.create_network("n")
            assert "table inet hyper" in rules(host)
            hyperd.client.remove_network("n")
            assert rules(host) == "" and host.links() == ["lo", "eth0"]
        finally:
            hyperd.close()
