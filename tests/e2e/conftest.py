"""Fixtures for all end-to-end tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.guest import kernel
from hypercontainer.hypervisor import cpu_counts
from tests.e2e.engine import ARCHITECTURE
from tests.e2e.hyperd_process import Hyperd


def _hyperd(directory: Path) -> Iterator[Hyperd]:
    if os.geteuid() != 0:
        pytest.skip("hyperd needs root")
    daemon = Hyperd(directory)
    with daemon.running():
        yield daemon


@pytest.fixture(scope="module")
def hyperd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hyperd]:
    """A running hyperd for a module's tests, with the image busybox:latest."""
    yield from _hyperd(tmp_path_factory.mktemp("hyperd"))


@pytest.fixture
def own_hyperd(tmp_path: Path) -> Iterator[Hyperd]:
    """A running hyperd of one test, which may be killed and started again."""
    yield from _hyperd(tmp_path)


@pytest.fixture(scope="session")
def hyperkernel() -> None:
    """For what Debian's kernel is too large for: it takes twice the memory, four times the files,
    and long to start."""
    if kernel.find().kind == "distribution":
        pytest.skip("Debian's kernel is too large for this: run `make hyperkernel`")


@pytest.fixture(scope="session")
def virtio_mem() -> None:
    """For VMs that get more memory while they run."""
    config = Path(kernel.find().kernel).resolve().with_name("config")
    if not config.exists() or "CONFIG_VIRTIO_MEM=y" not in config.read_text().split("\n"):
        pytest.skip("the guest kernel has no driver of virtio-mem: run `make hyperkernel`")


@pytest.fixture(scope="session")
def two_cpus() -> None:
    """For VMs that get another CPU while they run."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("this machine has one CPU: no VM gets more while it runs")
    if cpu_counts.most(1, kernel.find(), "tcg", ARCHITECTURE) < 2:
        pytest.skip("the guest kernel can't be told of more CPUs: run `make hyperkernel`")
