"""containerd's doors and Swarm, each with daemons in directories and namespaces of the tests' own.

Run by `make test-containerd`, which installs them; a run of all tests leaves them out.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containerd.cri import CRI
from tests.containerd.cri_image import write_image
from tests.engines import leftovers
from tests.engines.conftest import archive, containerd, runv, tree
from tests.engines.containerd import Containerd, runv_shim
from tests.engines.needs import is_named, need

__all__ = ["archive", "containerd", "runv", "tree"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only for those who name this directory."""
    return None if is_named(config, "containerd") else True


@pytest.fixture(scope="module")
def cri_module(tmp_path_factory: pytest.TempPathFactory, runv: Path, tree: Path) -> Iterator[CRI]:
    """containerd with CRI; asserts that a module's tests leave nothing."""
    need("containerd", "ctr", "containerd-shim-runc-v2", "ip", "iptables", "nft")
    directory = tmp_path_factory.mktemp("cri")
    archive = write_image(directory / "box.tar", tree)
    engine = CRI(directory, archive, runv)
    with leftovers.checked(engine):
        yield engine


@pytest.fixture
def cri(cri_module: CRI) -> Iterator[CRI]:
    """The CRI, with no pods before and after."""
    yield cri_module
    cri_module.remove_all()


@pytest.fixture(scope="module")
def containerd_module(
    tmp_path_factory: pytest.TempPathFactory, runv: Path, tree: Path
) -> Iterator[Containerd]:
    """containerd with runv's own shim; asserts that a module's tests leave nothing."""
    need("containerd", "ctr")
    engine = Containerd(tmp_path_factory.mktemp("containerd"), runv_shim(runv), tree)
    with leftovers.checked(engine):
        yield engine
