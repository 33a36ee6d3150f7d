"""The network of a container against the host's loopback: wrk against the same nginx, in turns.

nginx runs on the host, and in a container of hyperd; wrk runs on that host and reaches the
container by its address on the bridge and by its published port, and on another host (a network
namespace behind a veth) by the published port.
"""

import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.command_line import until
from tests.e2e.netns import HOST, Namespace, NetHyperd, two_hosts

from . import web
from .measure_ports import PORT, answers, serve_hyperd
from .results import Result

ROUNDS = 3
SECONDS = 3


def measure() -> Iterator[Result]:
    """Requests of 100 bytes and transfer of 1 MiB files, and their ratios to loopback's."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.", dir="/var/tmp") as name:
        directory = Path(name)
        layer = web.nginx_layer(directory / "nginx.tar")
        with two_hosts() as (host, peer), _nginx(host, layer, directory / "root"):
            hyperd = NetHyperd(directory, host)
            try:
                serve_hyperd(hyperd, layer)
                address = hyperd.address_of("web")
                yield from _compare(
                    {
                        "loopback of the host": (host, "127.0.0.1:80"),
                        "bridge": (host, f"{address}:80"),
                        "published port, same host": (host, f"127.0.0.1:{PORT}"),
                        "published port, another host": (peer, f"{HOST}:{PORT}"),
                    }
                )
            finally:
                hyperd.close()


@contextmanager
def _nginx(host: Namespace, layer: Path, root: Path) -> Iterator[None]:
    """The web server of the layer on the host, in the network of `host`."""
    with tarfile.open(layer) as archive:
        archive.extractall(root, filter="fully_trusted")
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / "null").touch()
    command = ["nsenter", f"--net=/run/netns/{host.name}", "chroot", str(root), *web.COMMAND]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _compare(ways: dict[str, tuple[Namespace, str]]) -> Iterator[Result]:
    prefixes = {way: ["nsenter", f"--net=/run/netns/{ns.name}"] for way, (ns, _) in ways.items()}
    for way, (_, place) in ways.items():
        until(lambda w=way, p=place: answers(prefixes[w], p), 60)
    requests: dict[str, list[float]] = {way: [] for way in ways}
    transfer: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, (_, place) in ways.items():
            requests[way].append(web.load(prefixes[way], f"http://{place}/small", SECONDS)[0])
            transfer[way].append(web.load(prefixes[way], f"http://{place}/large", SECONDS, 4)[1])
    for what, unit, found in (("requests", "1/s", requests), ("transfer", "MB/s", transfer)):
        base, *others = ways
        yield Result(f"{base}, {what}", unit, found[base])
        for way in others:
            yield Result(f"{way}, {what}", unit, found[way])
            ratios = [one / other for one, other in zip(found[way], found[base], strict=True)]
            yield Result(f"{way}, {what} to loopback's", "", ratios)
