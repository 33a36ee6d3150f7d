"""runv's own shim, by `ctr`."""

from tests.engines.containerd import Containerd
from tests.engines.containerd_cases import *  # noqa: F403
from tests.engines.containerd_cases import memory_usage


def test_metrics_are_those_of_the_container(containerd: Containerd) -> None:
    assert 0 < memory_usage(containerd, containerd.start("sleep", "1000")) < 20 << 20
