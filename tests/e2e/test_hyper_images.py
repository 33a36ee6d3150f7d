"""Images by the command line: pulled from a real registry on loopback, loaded, listed, removed."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import BOUND, Hyper, until
from tests.e2e.hyperd_process import Hyperd, busybox_archive

REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """busybox as a `docker save` archive."""
    return busybox_archive(tmp_path_factory.mktemp("archive") / "busybox.tar")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Iterator[str]:
    """The name of an image in a registry."""
    directory = tmp_path_factory.mktemp("registry")
    port = _free_port()
    config = directory / "config.yml"
    config.write_text(REGISTRY.format(directory=directory / "data", port=port))
    registry = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: _answers(port))
        name = f"127.0.0.1:{port}/test/busybox:1"
        subprocess.run(
            [
                *("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false"),
                f"docker-archive:{archive}",
                f"docker://{name}",
            ],
            timeout=BOUND,
            check=True,
        )
        yield name
    finally:
        registry.terminate()
        registry.wait(BOUND)


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def hyper(tmp_path_factory: pytest.TempPathFactory, image: str) -> Iterator[Hyper]:
    """`hyper` for a hyperd without images, which speaks plain HTTP to the registry."""
    daemon = Hyperd(tmp_path_factory.mktemp("hyperd"))
    try:
        daemon.start("--insecure_registry", image.partition("/")[0])
        yield Hyper(daemon.socket)
    finally:
        daemon.close()


def test_pull_list_remove(hyper: Hyper, image: str) -> None:
    done = hyper("pull", image)
    assert (done.returncode, done.stdout.decode()) == (0, f"{image}\n")
    lines = done.stderr.decode().splitlines()
    assert any(line.endswith("Pull complete") for line in lines)
    assert all(len(line) < 200 and "\x1b" not in line for line in lines)
    assert len(lines) == len(set(lines)), "a line for each change, not for each piece"
    repository, _, tag = image.rpartition(":")
    assert hyper.text("images").splitlines()[1].split()[:2] == [repository, tag]
    assert hyper.text("images", "-q", repository) == hyper.text("images", "-q")
    (listed,) = json.loads(hyper.text("images", "--format", "json"))
    assert json.loads(hyper.text("inspect", image))[0]["Id"] == listed["Id"]
    removed = hyper.text("rmi", listed["Id"].removeprefix("sha256:")[:12]).splitlines()
    assert removed[0].startswith("Untagged: ") and removed[-1].startswith("Deleted: ")
    assert hyper.text("images", "-q") == ""


def test_run_pulls_what_is_missing(hyper: Hyper, image: str) -> None:
    done = hyper("run", "--rm", image, "echo", "pulled")
    assert (done.returncode, done.stdout) == (0, b"pulled\n")
    assert done.stderr.decode().splitlines()[0] == f"Unable to find image '{image}' locally"
    done = hyper("run", "--rm", image, "echo", "again")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"again\n", b"")
    done = hyper("create", "--pull", "always", "--rm", image)
    assert done.returncode == 0 and b"up to date" in done.stderr
    busy = hyper("rmi", image)
    assert busy.returncode == 1 and busy.stderr.count(b"\n") == 1
    hyper.text("rm", done.stdout.decode().strip())
    hyper.text("rmi", image)


def test_bars_on_a_terminal(hyper: Hyper, image: str) -> None:
    terminal = hyper.on_terminal("pull", image)
    try:
        terminal.expect(b"Pull complete")
        terminal.expect(image.encode() + b"\r\n")
        assert terminal.end() == 0
    finally:
        terminal.close()
    hyper.text("rmi", image)


@pytest.mark.parametrize(
    "name", ["{registry}/test/none:1", "{registry}/test/busybox:none", "UPPER", "a b", ""]
)
def test_what_cannot_be_pulled(hyper: Hyper, image: str, name: str) -> None:
    name = name.format(registry=image.partition("/")[0])
    done = hyper("pull", "-q", name)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"hyper: ") and done.stderr.count(b"\n") == 1


def test_several_go_on_after_a_failure(hyper: Hyper, image: str) -> None:
    done = hyper("pull", "-q", image.replace("busybox", "none"), image)
    assert (done.returncode, done.stdout.decode()) == (1, f"{image}\n")
    done = hyper("rmi", "nothing-here", image)
    assert done.returncode == 1 and b"Deleted: " in done.stdout


def test_load(hyper: Hyper, archive: Path) -> None:
    assert hyper("load", "-qi", str(archive)).stdout == b"Loaded image: busybox:latest\n"
    assert hyper.text("images", "busybox").splitlines()[1].split()[:2] == ["busybox", "latest"]
    done = hyper("load", input=archive.read_bytes())
    assert (done.returncode, done.stdout) == (0, b"Loaded image: busybox:latest\n")
    hyper.text("rmi", "busybox")


@pytest.mark.parametrize("kept", [0, 1000, 700_000])
def test_archive_that_is_cut(hyper: Hyper, archive: Path, kept: int) -> None:
    done = hyper("load", input=archive.read_bytes()[:kept])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines()[-1].startswith(b"hyper: ")
    assert hyper.text("images", "-q") == ""


def test_archive_that_is_not_there(hyper: Hyper) -> None:
    done = hyper("load", "-i", "/not/there")
    assert done.returncode == 1
    assert done.stderr == b"hyper: cannot read the archive /not/there: no such file or directory\n"
