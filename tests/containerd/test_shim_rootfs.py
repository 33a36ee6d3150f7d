"""Root file systems as snapshotters give them, and streams that are no FIFOs."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.containerd.api import types_pb2
from tests.containerd.shim_client import OwnBundle
from tests.e2e.rootfs import make_squashfs, tar_of
from tests.engines.commands import Result, until
from tests.engines.containerd import Containerd
from tests.images import make_image

IMAGE = "docker.io/library/test:latest"


@pytest.fixture(scope="module")
def imported(
    containerd_module: Containerd, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An image of two layers in containerd's store."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    second = tmp_path_factory.mktemp("second")
    (second / "second").write_text("layer\n")
    make_image(archive, [tar_of(tree), tar_of(second)])
    containerd_module.check("image", "import", str(archive))


def run(containerd: Containerd, snapshotter: str, *argv: str) -> Result:
    cid = containerd.new_id()
    options = ("--runtime", "io.containerd.runv.v2", "--cgroup", f"/{containerd.name}/{cid}")
    return containerd.ctr("run", "--rm", "--snapshotter", snapshotter, *options, IMAGE, cid, *argv)


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_snapshotters(containerd: Containerd, imported: None, snapshotter: str) -> None:
    script = "cat /second; echo changed >/second; cat /second; cat /proc/mounts | head -1"
    for _ in range(2):
        done = run(containerd, snapshotter, "sh", "-c", script)
        assert done.out.splitlines()[:2] == ["layer", "changed"], done
        assert " / 9p " in done.out


def said(own: OwnBundle, log: Path, mount: types_pb2.Mount) -> str:
    assert own.run(mount, stdout=f"file://{log}", stderr=f"file://{log}") == 0, log.read_text()
    return log.read_text()


SCRIPT = "cat /proc/mounts | head -1; (echo more >>/etc/passwd) 2>&1; tail -n 1 /etc/passwd"


@pytest.fixture
def own(containerd: Containerd, tmp_path: Path) -> Iterator[OwnBundle]:
    (tmp_path / "bundle").mkdir()
    found = OwnBundle(containerd, tmp_path / "bundle", "sh", "-c", SCRIPT)
    yield found
    found.close()


def test_a_disk_that_is_written(own: OwnBundle, tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "root.ext4"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(image)]
    subprocess.run(command, check=True, timeout=60)
    mount = types_pb2.Mount(type="ext4", source=str(image), options=["rw", "loop"])
    text = said(own, tmp_path / "log", mount)
    assert " / ext4 rw" in text
    assert text.endswith("more\n")
    own.delete()
    dumped = ["debugfs", "-R", "cat /etc/passwd", str(image)]
    done = subprocess.run(dumped, capture_output=True, check=True, timeout=60)
    assert done.stdout.endswith(b"more\n")


def make_erofs(tree: Path, image: Path) -> Path:
    command = ["mkfs.erofs", "--quiet", "-zlz4", str(image), str(tree)]
    subprocess.run(command, check=True, timeout=60)
    return image


@pytest.mark.parametrize("make, kind", [(make_squashfs, "squashfs"), (make_erofs, "erofs")])
def test_a_disk_that_is_only_read(
    own: OwnBundle, tree: Path, tmp_path: Path, make: Callable[[Path, Path], Path], kind: str
) -> None:
    image = make(tree, tmp_path / "root.image")
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    mount = types_pb2.Mount(type=kind, source=str(image), options=["ro", "loop"])
    text = said(own, tmp_path / "log", mount)
    assert "overlay" in text.splitlines()[0]
    assert "Read-only file system" in text
    assert "more" not in text
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before


def test_output_to_a_program(containerd: Containerd, tmp_path: Path) -> None:
    program = tmp_path / "log"
    program.write_text(f"#!/bin/sh\nexec 5>&- >{tmp_path}/said\necho $CONTAINER_ID\ncat <&3\n")
    program.chmod(0o755)
    cid = containerd.start("echo", "hello", options=("--log-uri", f"binary://{program}"))
    said_file = tmp_path / "said"
    until(lambda: said_file.exists() and "hello" in said_file.read_text(), "the output")
    assert said_file.read_text() == f"{cid}\nhello\n"


def test_output_to_a_file(containerd: Containerd, tmp_path: Path) -> None:
    cid = containerd.start("echo", "hello", options=("--log-uri", f"file://{tmp_path}/said"))
    until(lambda: "STOPPED" in containerd.check("task", "ls"), f"{cid} ends")
    assert (tmp_path / "said").read_text() == "hello\n"
