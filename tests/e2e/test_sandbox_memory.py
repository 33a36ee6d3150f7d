"""Containers that need more memory than there is, and those that only look like it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, NotRunning, NotSupported
from hypercontainer.oci.events import table
from hypercontainer.sandbox import VMConfig, read_state
from tests.e2e.rootfs import make_config, make_upper
from tests.e2e.vms import Disks, Ran, run, sandbox

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("hyperkernel")]

_OOM_BOUND = 30.0


def _heavy(mib: int = 120, files: str = "0 1 2 3 4 5") -> str:
    """A script: a file of `mib` MiB and some of 10 MiB are written, archived, unpacked, and read by
    several at once. Usually that is three times the VM's memory."""
    return f"""
cd /var
dd if=/dev/zero of=big bs=1M count={mib}
mkdir in out
for i in {files}; do dd if=big of=in/$i bs=1k count=10240; done
tar cf all.tar in && tar xf all.tar -C out && cmp in/5 out/in/5
cat big >/dev/null & cat all.tar >/dev/null & cat big >copy
wait
echo done
"""


def _config(*args: str, limit_mib: int = 0) -> dict[str, Any]:
    config = make_config(*args)
    if limit_mib:
        config["linux"]["resources"] = {"memory": {"limit": limit_mib << 20}}
    return config


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


async def _run_hog(directory: Path, disks: Disks, config: dict[str, Any], **vm: Any) -> Ran:
    async with sandbox(directory, memory_mib=96, **vm) as client:
        return await asyncio.wait_for(run(client, disks.rootfs(), config=config), _OOM_BOUND)


@pytest.mark.parametrize("limit_mib", [0, 32])
async def test_a_hog_is_killed(tmp_path: Path, disks: Disks, limit_mib: int) -> None:
    """With no limit but the VM's, the kernel would evict and read its programs for minutes."""
    ran = await _run_hog(tmp_path, disks, _config("tail", "/dev/zero", limit_mib=limit_mib))
    assert (ran.status.code, ran.status.signal, ran.status.oom) == (137, 9, True)


async def test_a_hog_beside_a_busy_process_is_the_one_killed(tmp_path: Path, disks: Disks) -> None:
    script = "while :; do :; done & tail /dev/zero; echo $?; kill $!; exit 3"
    ran = await _run_hog(tmp_path, disks, _config("sh", "-c", script))
    assert (ran.stdout, ran.status.code, ran.status.oom) == (b"137\n", 3, True)


async def test_the_other_container_of_the_vm_goes_on(tmp_path: Path, disks: Disks) -> None:
    async with sandbox(tmp_path, memory_mib=96) as client:
        await client.create_container("other", make_config("sleep", "3600"), disks.rootfs())
        await client.start_container("other")
        hog = run(client, disks.rootfs(), config=_config("tail", "/dev/zero"))
        assert (await asyncio.wait_for(hog, _OOM_BOUND)).status.oom
        other = (await client.info())["containers"]["other"]
        assert (other["status"], other["oom"]) == ("running", False)


async def test_whoever_ends_a_hog_it_is_counted(tmp_path: Path, disks: Disks) -> None:
    """Here hyperstart, of which the kernel's own counter, and so `runv events`, would not know."""
    async with sandbox(tmp_path, memory_mib=96) as client:
        config = _config("sh", "-c", "tail /dev/zero; exec sleep 3600")
        await client.create_container("hog", config, disks.rootfs())
        await client.start_container("hog")
        deadline = time.monotonic() + _OOM_BOUND
        while table((await client.stats("hog"))["memory.events"])["oom_kill"] != 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert (await client.info())["containers"]["hog"]["status"] == "running"


async def test_a_full_container_that_gets_on_with_files_is_left_alone(
    tmp_path: Path, disks: Disks
) -> None:
    """Nine tenths are held, and what is left turns over, but with what is new or was long ago."""
    hold = f"head -c {29 << 20} /dev/zero | tail -c {29 << 20} | {{ {_heavy(40, '4 5')} }}"
    upper = make_upper(tmp_path / "upper.img", 1 << 30)
    async with sandbox(tmp_path, memory_mib=VMConfig().memory_mib) as client:
        config = _config("sh", "-c", hold, limit_mib=32)
        ran = await run(client, disks.rootfs(upper), config=config)
    assert (ran.stdout, ran.status.code, ran.status.oom) == (b"done\n", 0, False), ran.stderr


async def test_a_protected_process_is_not_the_one_killed(tmp_path: Path, disks: Disks) -> None:
    """Known to the kernel as oom_score_adj -1000: here the shell, and the hog is not."""
    script = "echo -1000 >/proc/self/oom_score_adj; sh -c 'echo 0 >/proc/self/oom_score_adj;"
    script += " exec tail /dev/zero'; echo $?"
    ran = await _run_hog(tmp_path, disks, _config("sh", "-c", script))
    assert (ran.stdout, ran.status.code) == (b"137\n", 0)


@pytest.mark.parametrize("limit_mib", [0, 32])
async def test_heavy_use_of_files_is_no_reason(
    tmp_path: Path, disks: Disks, limit_mib: int
) -> None:
    upper = make_upper(tmp_path / "upper.img", 1 << 30)
    config = _config("sh", "-c", _heavy(), limit_mib=limit_mib)
    async with sandbox(tmp_path, memory_mib=VMConfig().memory_mib) as client:
        ran = await run(client, disks.rootfs(upper), config=config)
    assert (ran.stdout, ran.status.code, ran.status.oom) == (b"done\n", 0, False)


@pytest.mark.usefixtures("virtio_mem")
async def test_a_running_vm_gets_more_memory(tmp_path: Path, disks: Disks) -> None:
    """For a process that had no room before; as far as the machine has it."""
    wants = _config("dd", "if=/dev/zero", "of=/dev/null", "bs=130M", "count=1")
    async with sandbox(tmp_path, memory_mib=96) as client:
        assert (await run(client, disks.rootfs(), config=wants)).status.code != 0
        assert await client.grow(200) == 96 + 128
        assert await client.grow(200) == 96 + 128
        assert await client.grow(330) == 96 + 256
        state = read_state(str(client.state_dir))
        assert state is not None
        assert (state["memory_mib"], (await client.info())["memory_mib"]) == (352, 352)
        assert (await run(client, disks.rootfs(), config=wants)).status.code == 0
        with pytest.raises(BadRequest, match=r"is more than the \d+ MiB that this machine has"):
            await client.grow(1 << 30)
        with (tmp_path / "ram").open("wb") as ram, pytest.raises(NotSupported, match="more memory"):
            await client.snapshot(str(tmp_path), ram.fileno(), disks=False)
        await client.pause()
        with pytest.raises(NotRunning, match="the virtual machine is paused"):
            await client.grow(600)
        await client.resume()
        assert (await run(client, disks.rootfs(), "true")).status.code == 0
