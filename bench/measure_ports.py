"""A published port: wrk on another host against nginx in a container, of hyperd and of Docker.

Docker runs its containers by runv, so that the engine is the same; both hosts are network
namespaces, and the cable between them is a veth. Measured in turns.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.command_line import until
from tests.e2e.netns import HOST, Namespace, NetHyperd, two_hosts
from tests.engines.docker import IMAGE, Docker
from tests.images import make_image

from . import web
from .results import Result

ROUNDS = 3
SECONDS = 5
PORT = 8080
DOCKER_HOST, DOCKER_PEER = "10.78.0.1", "10.78.0.2"
_PARITY = 0.8


def measure() -> Iterator[Result]:
    """Requests of 100 bytes and transfer of 1 MiB files; hyperd at least at 0.8 of Docker's."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.", dir="/var/tmp") as name:
        directory = Path(name)
        layer = web.nginx_layer(directory / "nginx.tar")
        with two_hosts() as (host, peer):
            hyperd = NetHyperd(directory, host)
            docker = None
            try:
                serve_hyperd(hyperd, layer)
                docker = _docker(directory, layer, peer)
                yield from _compare(peer, docker is not None)
            finally:
                if docker is not None:
                    docker.close()
                hyperd.close()


def serve_hyperd(hyperd: NetHyperd, layer: Path) -> None:
    """Start hyperd with the web server of a layer in a container, `web`, published at PORT."""
    image = hyperd.root.parent / "nginx-oci.tar"
    make_image(image, [layer.read_bytes()], "docker.io/library/nginx:bench")
    hyperd.start()
    with image.open("rb") as file:
        for _ in hyperd.client.load(file):
            pass
    item = {"image": "nginx:bench", "command": list(web.COMMAND), "name": "web"}
    ports = [{"containerPort": 80, "hostPort": PORT}]
    hyperd.client.create_pod({"id": "web", "containers": [item], "portmappings": ports})
    hyperd.client.start_container("web")


def _docker(directory: Path, layer: Path, peer: Namespace) -> Docker | None:
    """Docker with the same container, at the end of another cable; None where it is missing."""
    if shutil.which("dockerd") is None:
        return None
    place = directory / "docker"
    place.mkdir()
    docker = Docker(place, Path(sys.executable).with_name("runv"), layer)
    try:
        cable = ("ip", "link", "add", "eth0", "type", "veth", "peer", "eth1", "netns", peer.name)
        _inside(docker, *cable)
        _inside(docker, "ip", "address", "add", f"{DOCKER_HOST}/24", "dev", "eth0")
        _inside(docker, "ip", "link", "set", "eth0", "up")
        peer.run("ip", "address", "add", f"{DOCKER_PEER}/24", "dev", "eth1")
        peer.run("ip", "link", "set", "eth1", "up")
        docker.start("-p", f"{PORT}:80", IMAGE, *web.COMMAND)
    except BaseException:
        docker.close()
        raise
    return docker


def _inside(docker: Docker, *command: str) -> None:
    from tests.engines.commands import run

    run(*docker.namespace.inside(*command), check=True)


def _compare(peer: Namespace, with_docker: bool) -> Iterator[Result]:
    hosts = {"hyperd": HOST, **({"docker + runv": DOCKER_HOST} if with_docker else {})}
    requests: dict[str, list[float]] = {name: [] for name in hosts}
    transfer: dict[str, list[float]] = {name: [] for name in hosts}
    prefix = ["nsenter", f"--net=/run/netns/{peer.name}"]
    for address in hosts.values():
        until(lambda a=address: answers(prefix, f"{a}:{PORT}"), 60)
    for _ in range(ROUNDS):
        for name, address in hosts.items():
            requests[name].append(web.load(prefix, f"http://{address}:{PORT}/small", SECONDS)[0])
            transfer[name].append(web.load(prefix, f"http://{address}:{PORT}/large", SECONDS, 4)[1])
    for what, unit, found in (("requests", "1/s", requests), ("transfer", "MB/s", transfer)):
        results = [Result(f"published port, {what}: {name}", unit, found[name]) for name in hosts]
        yield from results
        if with_docker:
            ratio = results[0].value / results[1].value
            yield Result(f"published port, {what}: to docker's", "", [ratio], at_least=_PARITY)


def answers(prefix: list[str], place: str) -> bool:
    """Whether the web server at an address and port does its work."""
    try:
        web.load(prefix, f"http://{place}/small", 1, 1)
    except (RuntimeError, OSError, subprocess.CalledProcessError):
        return False
    return True
