"""The engines, each started by the tests in a network namespace and directories of its own.

Run by `make test-engines`, which installs them; a run of all tests leaves them out.
"""

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.rootfs import make_tree
from tests.engines import leftovers
from tests.engines.containerd import Containerd, runc_shim
from tests.engines.docker import Docker
from tests.engines.needs import is_named, need, runv_command
from tests.engines.podman import Podman

_HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only for those who name this directory."""
    return None if is_named(config, "engines") else True


@pytest.fixture(scope="session")
def runv() -> Path:
    """The command under test."""
    return runv_command()


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory of busybox, and a server of UDP, which busybox lacks."""
    path = make_tree(tmp_path_factory.mktemp("tree") / "rootfs")
    files = (str(path / "bin" / "udp_once"), str(_HERE / "udp_once.c"))
    subprocess.run(["musl-gcc", "-static", "-o", *files], check=True, timeout=60)
    return path


@pytest.fixture(scope="session")
def archive(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a tar."""
    path = tmp_path_factory.mktemp("archive") / "box.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tree, arcname=".")
    return path


@pytest.fixture(scope="session")
def engine_docker(
    tmp_path_factory: pytest.TempPathFactory, runv: Path, archive: Path
) -> Iterator[Docker]:
    """One dockerd for all modules."""
    need("dockerd", "docker", "containerd", "ip", "iptables")
    engine = Docker(tmp_path_factory.mktemp("docker"), runv, archive)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def docker_module(engine_docker: Docker) -> Iterator[Docker]:
    """Asserts that a module's tests leave nothing."""
    yield engine_docker
    leftovers.check_none(engine_docker.look)


@pytest.fixture
def docker(docker_module: Docker) -> Iterator[Docker]:
    """Docker, with no containers before and after."""
    yield docker_module
    docker_module.remove_all()


@pytest.fixture(scope="module")
def podman_module(
    tmp_path_factory: pytest.TempPathFactory, runv: Path, archive: Path
) -> Iterator[Podman]:
    """Podman; asserts that a module's tests leave nothing."""
    need("podman", "conmon", "ip", "iptables")
    engine = Podman(tmp_path_factory.mktemp("podman"), runv, archive)
    with leftovers.checked(engine):
        yield engine


@pytest.fixture
def podman(podman_module: Podman) -> Iterator[Podman]:
    """Podman, with no containers before and after."""
    yield podman_module
    podman_module.remove_all()


@pytest.fixture(scope="module")
def containerd_module(
    tmp_path_factory: pytest.TempPathFactory, runv: Path, tree: Path
) -> Iterator[Containerd]:
    """containerd; asserts that a module's tests leave nothing."""
    need("containerd", "ctr", "containerd-shim-runc-v2")
    engine = Containerd(tmp_path_factory.mktemp("containerd"), runc_shim(runv), tree)
    with leftovers.checked(engine):
        yield engine


@pytest.fixture
def containerd(containerd_module: Containerd) -> Iterator[Containerd]:
    """containerd, with no containers before and after."""
    yield containerd_module
    containerd_module.remove_all()
