"""The pull of one image from a registry on loopback: by hyperd, and by podman where it is.

The image has three gzip layers: programs of this host, text, and what can't be compressed. Both
begin without it each time. hyperd also makes its disks of the layers, podman unpacks them.
"""

import gzip
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hypercontainer.client import Client
from tests.registry import RegistryServer
from tests.tars import Item, make_tar

from .daemon import hyperd
from .results import Result

ROUNDS = 3
PROGRAMS = 60 << 20
BOUND = 300.0
_PARITY = 1.0


def measure() -> Iterator[Result]:
    """Seconds from the command to its end; hyperd within podman's time."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.", dir="/var/tmp") as name:
        directory = Path(name)
        with RegistryServer(directory / "registry") as registry:
            image = f"{registry.host}/bench/image:1"
            size = _push(directory, image)
            podman = shutil.which("podman")
            with hyperd(insecure=registry.host) as hyper:
                ours, theirs = [], []
                for _ in range(ROUNDS):
                    ours.append(hyper.timed("pull", "-q", image))
                    Client(f"unix://{hyper.socket}").remove_image(image, force=True)
                    if podman:
                        theirs.append(_podman(podman, directory, image))
    note = f"{size / 1e6:.0f} MB compressed, from loopback"
    yield Result("hyper pull", "s", ours, note=note)
    if theirs:
        yield Result("podman pull", "s", theirs, note=note)
        ratio = sorted(ours)[ROUNDS // 2] / sorted(theirs)[ROUNDS // 2]
        yield Result("hyper pull to podman's", "", [ratio], at_most=_PARITY)


def _layers() -> list[bytes]:
    programs: list[Item] = []
    total = 0
    for path in sorted(Path("/usr/bin").iterdir()):
        if path.is_symlink() or not path.is_file():
            continue
        programs.append(Item(f"usr/bin/{path.name}", path.read_bytes(), mode=0o755))
        total += path.stat().st_size
        if total > PROGRAMS:
            break
    texts = [Item(f"usr/share/doc/{n}", f"line {n}\n".encode() * 300) for n in range(4000)]
    noise = [Item(f"data/{n}", os.urandom(1 << 20)) for n in range(16)]
    return [make_tar(items) for items in (programs, texts, noise)]


def _push(directory: Path, image: str) -> int:
    """Push the image; returns the bytes of its layers, compressed."""
    from tests.images import make_image

    layers = _layers()
    source = make_image(directory / "image.tar", layers)
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", source, f"docker://{image}"],
        check=True,
        timeout=BOUND,
    )
    return sum(len(gzip.compress(layer, 6)) for layer in layers)


def _podman(podman: str, directory: Path, image: str) -> float:
    """Pull into an empty store; the seconds."""
    store = directory / "podman"
    flags = [f"--root={store}/root", f"--runroot={store}/run", "--storage-driver=overlay"]
    begin = time.perf_counter()
    subprocess.run(
        [podman, *flags, "pull", "-q", "--tls-verify=false", image],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=BOUND,
    )
    took = time.perf_counter() - begin
    for mount in (store / "root/overlay", store / "root"):
        subprocess.run(["umount", "-q", mount], stderr=subprocess.DEVNULL, timeout=30)
    shutil.rmtree(store)
    return took
