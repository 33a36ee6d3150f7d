"""Hypervisors that this host has not: one line that says so, at each door, and nothing left."""

from pathlib import Path

import pytest

from hypercontainer.errors import NotSupported, VMError
from hypercontainer.hypervisor import engines
from hypercontainer.sandbox import VMConfig, launch
from tests.e2e.hyperd_process import Hyperd
from tests.e2e.rootfs import make_tree
from tests.e2e.runv_process import Runv

pytestmark = pytest.mark.skipif(bool(engines.xen_kinds()), reason="this host runs on Xen")

NO_XEN = "xenpv can't be used: this host does not run on Xen: boot it by xen-hypervisor, or use"


def test_runv_without_xen(tmp_path: Path) -> None:
    runv = Runv(tmp_path, make_tree(tmp_path / "rootfs"))
    runv.flags += ["--driver", "xenpv"]
    done = runv("run", "--bundle", runv.bundle("true"), "c", check=False)
    assert done.returncode != 0
    (line,) = done.stderr.decode().splitlines()
    assert NO_XEN in line
    assert runv("list", "-q").stdout == b""


def test_hyperd_without_xen(own_hyperd: Hyperd) -> None:
    own_hyperd.end()
    own_hyperd.config.write_text("Hypervisor = xenpv\n")
    own_hyperd.start()
    container = own_hyperd.create("true")
    with pytest.raises(VMError, match=NO_XEN):
        own_hyperd.client.start_container(container)
    own_hyperd.client.remove_container(container)
    own_hyperd.nothing_left()


async def test_flash_is_not_for_xen(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="xenpv boots kernel and initrd: there is"):
        await launch("a", tmp_path / "vm", VMConfig(accel="xenpv", cbfs="/cbfs.rom"))
