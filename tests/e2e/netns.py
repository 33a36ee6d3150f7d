"""Network namespaces of a test's own: a host that hyperd runs on, and another host beside it."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hypercontainer.system.threads import in_network_namespace
from tests.e2e.engine import SLOWNESS
from tests.e2e.hyperd_process import Hyperd

T = TypeVar("T")
BOUND = 30.0 * SLOWNESS
HOST, PEER = "10.77.0.1", "10.77.0.2"
HOST6, PEER6 = "fd77::1", "fd77::2"


class Namespace:
    """One network namespace, until `close`."""

    def __init__(self) -> None:
        self.name = f"hyper-test-{uuid.uuid4().hex[:8]}"
        _run("ip", "netns", "add", self.name)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *argv: str) -> str:
        """Run a command in it; returns its output."""
        return _run("nsenter", f"--net=/run/netns/{self.name}", *argv)

    def links(self) -> list[str]:
        """The names of its interfaces."""
        return [link["ifname"] for link in json.loads(self.run("ip", "-j", "link", "show"))]

    def inside(self, work: Callable[[], T]) -> T:
        """Call something in it: sockets that it makes are the namespace's."""
        fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return in_network_namespace(fd, work)
        finally:
            os.close(fd)

    def socket(self, host: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A socket of it for an address's family."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = self.inside(lambda: socket.socket(family, kind))
        sock.settimeout(BOUND)
        return sock

    def tcp(self, host: str, port: int, data: bytes = b"") -> bytes:
        """Connect, send, and read to the end."""
        with self.socket(host) as sock:
            sock.connect((host, port))
            sender = threading.Thread(target=_send, args=(sock, data))
            sender.start()
            parts = []
            while part := sock.recv(1 << 16):
                parts.append(part)
            sender.join()
            return b"".join(parts)

    def udp(self, host: str, port: int, data: bytes) -> bytes:
        """Send a datagram until one comes back."""
        with self.socket(host, socket.SOCK_DGRAM) as sock:
            sock.connect((host, port))
            sock.settimeout(3.0)
            for _ in range(10):
                sock.send(data)
                with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                    return sock.recv(1 << 16)
        raise AssertionError(f"no answer from {host}:{port}/udp")

    def close(self) -> None:
        """Remove it."""
        _run("ip", "netns", "del", self.name)


class NetHyperd(Hyperd):
    """A hyperd in a namespace, with its default bridge."""

    def __init__(self, directory: Path, namespace: Namespace) -> None:
        super().__init__(directory)
        self.namespace = namespace
        self.bridge = "hyper0"

    def command(self, *flags: str) -> list[str]:
        """Its command line, by way of the namespace."""
        entry = ["nsenter", f"--net=/run/netns/{self.namespace.name}"]
        return [*entry, *super().command(*flags)]

    def settings_of(self, container: str) -> dict[str, Any]:
        """NetworkSettings of inspect."""
        return dict(self.client.inspect_container(container)["NetworkSettings"])

    def outlives_a_restart(self, engine: str, *, bound: float = 20.0, **pod: Any) -> str:
        """A pod of two containers in a VM of `engine` that reaches its gateway, and of which
        hyperd, which may take `bound` seconds to start, loses nothing: its id."""
        sleeper = {"image": "busybox", "command": ["sleep", "10000"]}
        made = self.client.create_pod({"containers": [sleeper, sleeper], **pod})
        first, second = made["Containers"]
        self.client.start_pod(made["ID"])
        assert self.vm_of(first)["Accel"] == engine
        assert self.vm_of(first)["VmmPid"] == self.vm_of(second)["VmmPid"]
        assert self.execute(first, "hostname")[1].strip() == made["ID"]
        gateway = self.settings_of(first)["Gateway"]
        assert self.execute(first, "ping", "-c1", "-w60", gateway)[0] == 0
        self.end()
        self.start(bound=bound)
        assert self.execute(second, "echo", "still here") == (0, "still here\n")
        self.client.stop_container(second, timeout=0)
        assert self.state_of(second)["ExitCode"] == 137
        assert self.execute(first, "true")[0] == 0
        return str(made["ID"])

    def address_of(self, container: str) -> str:
        """The IPv4 address of a container."""
        return str(self.settings_of(container)["IPAddress"])


H = TypeVar("H", bound=NetHyperd)


@contextlib.contextmanager
def alone(kind: type[H], directory: Path) -> Iterator[H]:
    """A hyperd with an image, in a namespace of its own; skips where it can't be."""
    if os.geteuid() != 0:
        pytest.skip("hyperd needs root")
    namespace = Namespace()
    hyperd = kind(directory, namespace)
    try:
        with hyperd.running():
            yield hyperd
    finally:
        namespace.close()


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """A namespace for hyperd, and another host that reaches it by a cable."""
    host, peer = Namespace(), Namespace()
    try:
        cable = ("ip", "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", peer.name)
        host.run(*cable)
        for namespace, address, address6 in ((host, HOST, HOST6), (peer, PEER, PEER6)):
            namespace.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            namespace.run("ip", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
            namespace.run("ip", "link", "set", "eth0", "up")
        peer.run("ip", "route", "add", "default", "via", HOST)
        yield host, peer
    finally:
        host.close()
        peer.close()


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=BOUND)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout
