"""runv-containerd's images: `ctr` pulls, lists, exports and removes them; nothing is left."""

import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.images import ImageStore
from tests.containerd.runv_containerd import RunvContainerd, running
from tests.e2e.hyperd_process import busybox_archive
from tests.engines.commands import run, until
from tests.images import make_image
from tests.registry import RegistryServer
from tests.tars import Item, make_tar


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with busybox."""
    folder = tmp_path_factory.mktemp("registry")
    with RegistryServer(folder) as server:
        archive = busybox_archive(folder / "busybox.tar")
        server.push(f"docker-archive:{archive}", "busybox:latest")
        yield server


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunvContainerd]:
    """A daemon of the test's own."""
    with running(tmp_path) as one:
        yield one


def _pull(daemon: RunvContainerd, registry: RegistryServer, name: str = "busybox:latest") -> str:
    reference = f"{registry.host}/{name}"
    daemon.check("images", "pull", "--plain-http", reference)
    return reference


def test_pull_list_export_import_push_remove(
    daemon: RunvContainerd, registry: RegistryServer, tmp_path: Path
) -> None:
    assert daemon.check("namespaces", "list", "-q") == ""
    name = _pull(daemon, registry)
    assert daemon.check("images", "list", "-q").split() == [name]
    assert "complete (2/2)" in daemon.check("images", "check")
    digests = daemon.check("content", "list", "-q").split()
    assert len(digests) == 3
    assert len(daemon.check("snapshots", "list").splitlines()) == 2
    layer = next(iter((daemon.root / "images/snapshots").iterdir())) / "fs"
    assert os.access(layer / "bin/busybox", os.X_OK)
    for digest in digests:
        got = subprocess.run(daemon.command("content", "get", digest), capture_output=True)
        path = daemon.root / "images/content" / digest.partition(":")[2]
        assert got.stdout == path.read_bytes() == registry.blob(digest).read_bytes()

    daemon.check("images", "tag", name, "other:1")
    daemon.check("images", "push", "--plain-http", f"{registry.host}/pushed:1", name)
    archive = tmp_path / "image.tar"
    daemon.check("images", "export", str(archive), "other:1")
    daemon.check("images", "remove", "--sync", name)
    assert len(daemon.check("content", "list", "-q").split()) == 3, "the other name keeps them"
    daemon.check("images", "remove", "--sync", "other:1")
    assert daemon.files() == []
    daemon.check("images", "import", str(archive))
    assert daemon.check("images", "list", "-q").split() == ["other:1"]
    daemon.check("images", "remove", "--sync", "other:1")
    _pull(daemon, registry, "pushed:1")
    daemon.check("images", "remove", "--sync", f"{registry.host}/pushed:1")
    assert daemon.files() == []
    daemon.check("namespaces", "remove", "default")


def test_layers_are_stacked_and_their_whiteouts_count(
    daemon: RunvContainerd, registry: RegistryServer, tmp_path: Path
) -> None:
    layers = [
        make_tar([Item("a", b"below"), Item("gone", b"x"), Item("d/kept", b"y")]),
        make_tar(
            [
                Item(".wh.gone", b""),
                Item("a", b"above"),
                Item("d/.wh..wh..opq", b""),
                Item("d/new", b"z"),
            ]
        ),
    ]
    registry.push(make_image(tmp_path / "image.tar", layers), "layers:1")
    name = _pull(daemon, registry, "layers:1")
    target = tmp_path / "mounted"
    target.mkdir()
    daemon.check("images", "mount", "--rw", name, str(target))
    try:
        assert (target / "a").read_bytes() == b"above"
        assert sorted(p.name for p in target.iterdir()) == ["a", "d"]
        assert [p.name for p in (target / "d").iterdir()] == ["new"]
        (target / "made").write_text("here")
        usage = daemon.check("snapshots", "usage", str(target)).splitlines()[1]
        assert usage.split()[-1] == "2", "the directory and the file"
        made = subprocess.run(daemon.command("snapshots", "diff", str(target)), capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as tar:
            assert tar.getnames() == ["made"]
    finally:
        daemon.check("images", "unmount", "--rm", str(target))
    daemon.check("images", "remove", "--sync", name)
    until(lambda: not daemon.files(), "nothing left")


def test_namespaces_have_their_own_but_content_is_one_file(
    daemon: RunvContainerd, registry: RegistryServer
) -> None:
    name = _pull(daemon, registry)
    served = registry.log().count("/blobs/")
    daemon.check("images", "pull", "--plain-http", name, namespace="b")
    assert registry.log().count("/blobs/") == served, "nothing is fetched twice"
    assert len(daemon.check("content", "list", "-q", namespace="b").split()) == 3
    assert daemon.ctr("namespaces", "remove", "b").code != 0, "it is not empty"
    daemon.check("images", "remove", "--sync", name)
    assert len(daemon.check("images", "list", "-q", namespace="b").split()) == 1
    assert "complete (2/2)" in daemon.check("images", "check", namespace="b")


async def test_hyperd_takes_what_is_there(daemon: RunvContainerd, registry: RegistryServer) -> None:
    name = _pull(daemon, registry)
    store = ImageStore(daemon.root / "images")
    try:
        served = registry.log().count("/blobs/")
        image = await store.pull(name)
        assert registry.log().count("/blobs/") == served, "nothing is fetched twice"
        daemon.check("images", "remove", "--sync", name)
        assert image.layers[0].path.exists()
        _pull(daemon, registry)
        layer = store.layer_archives(name)[0]
        names = {p.stat().st_ino for p in (daemon.root / "images/content").iterdir()}
        assert layer.stat().st_ino in names, "one file with two names"
    finally:
        store.close()


def test_a_daemon_killed_while_it_takes_content_leaves_nothing(
    daemon: RunvContainerd, registry: RegistryServer, tmp_path: Path
) -> None:
    writer = subprocess.Popen(
        daemon.command("content", "ingest", "half", "--expected-size", "100"),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert writer.stdin is not None
    writer.stdin.write(b"x" * 10)
    writer.stdin.flush()
    until(lambda: "half" in daemon.check("content", "active"), "the ingest")
    daemon.end(signal.SIGKILL)
    writer.kill()
    writer.wait(10)
    orphan = daemon.root / "images/content" / ("0" * 64)
    orphan.write_bytes(b"of a daemon that was killed before it noted this")
    stray = daemon.root / "images/snapshots/999/fs"
    stray.mkdir(parents=True)
    daemon.start()
    assert not orphan.exists()
    assert not stray.exists()
    assert "half" in daemon.check("content", "active"), "a later try goes on"
    name = _pull(daemon, registry)
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert "complete (2/2)" in daemon.check("images", "check")
    daemon.check("images", "remove", "--sync", name)
    assert [path for path in daemon.files() if "ingest" not in path] == []


def test_a_full_disk(registry: RegistryServer, tmp_path: Path) -> None:
    noise = os.urandom(6 << 20)
    registry.push(make_image(tmp_path / "big.tar", [make_tar([Item("noise", noise)])]), "big:1")
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small), check=True)
    try:
        with running(small) as daemon:
            failed = daemon.ctr("images", "pull", "--plain-http", f"{registry.host}/big:1")
            assert failed.code != 0
            assert "no space left" in failed.err, failed.err
            for name in daemon.check("images", "list", "-q").split():
                daemon.check("images", "remove", "--sync", name)
            name = _pull(daemon, registry)
            assert "complete (2/2)" in daemon.check("images", "check")
            daemon.check("images", "remove", "--sync", name)
            for lease in daemon.check("leases", "list", "-q").split():
                daemon.check("leases", "delete", "--sync", lease)
            left = [path for path in daemon.files() if "ingest" not in path]
            assert left == []
    finally:
        run("umount", "-l", str(small), check=True)
