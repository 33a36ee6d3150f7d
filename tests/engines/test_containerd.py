"""containerd's runc shim with runv as its runc, by `ctr`."""

from tests.engines.containerd import Containerd
from tests.engines.containerd_cases import *  # noqa: F403
from tests.engines.containerd_cases import memory_usage


def test_metrics_are_those_of_the_vm(containerd: Containerd) -> None:
    """Of a VM that was kept ready, what it took since: memory stays with its first group."""
    assert memory_usage(containerd, containerd.start("sleep", "1000")) > 1 << 20
