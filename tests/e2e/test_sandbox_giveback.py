"""Memory that comes back to the host: what a guest frees, and translations of what it ran."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercontainer.hypervisor import giveback, qemu_start
from hypercontainer.hypervisor import template as store
from hypercontainer.sandbox import SandboxClient, VMConfig, launch, read_state
from hypercontainer.sandbox import template as maker
from tests.e2e import vms
from tests.e2e.rootfs import make_config, process

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("hyperkernel", "library")]

_BOUND = 90.0
_MIB = 1 << 20
# A process that has 200 MiB in one piece, all of it written, and ends.
_HOG = ("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")


@pytest.fixture(scope="module")
def library() -> None:
    if not giveback.library(qemu_start.binary()):
        pytest.skip("QEMU can't use the library of `make giveback`")


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> vms.Disks:
    return vms.Disks(tmp_path_factory.mktemp("disks"))


def _vmm(client: SandboxClient) -> int:
    state = read_state(client.state_dir)
    assert state is not None
    return int(state["vmm_pid"])


def _pss(pid: int) -> int:
    match = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert match is not None
    return int(match[1]) * 1024


def _translations(pid: int) -> int:
    """The resident size of anonymous memory that can be executed."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    return 1024 * sum(map(int, re.findall(r" rwxp 0+ 00:00 0 *\n.*\n.*\n.*\nRss: +(\d+)", text)))


async def _until_below(measure: Callable[[int], int], pid: int, size: int) -> None:
    deadline = time.monotonic() + _BOUND
    while (now := measure(pid)) > size:
        assert time.monotonic() < deadline, f"{now / _MIB:.1f} MiB, not {size / _MIB:.1f}"
        await asyncio.sleep(0.5)


async def _allocate_and_free(client: SandboxClient, disks: vms.Disks) -> None:
    await client.create_container("c", make_config("sleep", "3600"), disks.rootfs())
    await client.start_container("c")
    pid = _vmm(client)
    before = _pss(pid)
    ran = await vms.execute(client, "c", "hog", process(*_HOG))
    assert ran.status.code == 0, ran.stderr
    status = Path(f"/proc/{pid}/status").read_text()
    most = int(re.findall(r"^VmHWM:\s+(\d+)", status, re.M)[0]) * 1024
    assert most > 200 * _MIB
    await _until_below(_pss, pid, before + 16 * _MIB)
    # What it used and got back is not broken.
    again = await vms.execute(client, "c", "again", process("sh", "-c", "seq 5000 | md5sum"))
    assert again.stdout.split()[0] == b"a5a208cd26b07cadade3450fe14d1d93"


async def test_memory_that_a_clone_frees_comes_back(
    tmp_path: Path, disks: vms.Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "templates"
    vms.keep_templates(monkeypatch, directory)
    config = VMConfig(accel="tcg", memory_mib=320, template="use")
    try:
        key = await asyncio.to_thread(maker.make, config)
        client = await launch("clone", tmp_path / "clone", config)
        try:
            state = read_state(client.state_dir)
            assert state is not None
            assert state["template"] == key
            await _allocate_and_free(client, disks)
        finally:
            await client.kill()
    finally:
        for name in store.names():
            store.remove(name)


@pytest.mark.usefixtures("virtio_mem")
async def test_memory_that_a_booted_guest_frees_comes_back(
    tmp_path: Path, disks: vms.Disks
) -> None:
    """What was plugged too: without that, the process would not have room."""
    async with vms.sandbox(tmp_path, memory_mib=96) as client:
        assert await client.grow(320) == 96 + 256
        await _allocate_and_free(client, disks)


@pytest.mark.parametrize("cpus", [1, 2])
async def test_translations_of_an_idle_guest_go(
    tmp_path: Path, disks: vms.Disks, cpus: int
) -> None:
    async with vms.sandbox(tmp_path, memory_mib=128, cpus=cpus) as client:
        await client.create_container("c", make_config("sleep", "3600"), disks.rootfs())
        await client.start_container("c")
        pid = _vmm(client)
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert not [name for name in ("/libcapstone.", "/libpmem.") if name in mapped]
        assert _translations(pid) > 8 * _MIB
        await _until_below(_translations, pid, 4 * _MIB)
        ran = await vms.execute(client, "c", "after", process("sh", "-c", "echo $((6 * 7))"))
        assert (ran.stdout, ran.status.code) == (b"42\n", 0)
