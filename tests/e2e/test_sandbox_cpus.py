"""More CPUs for a VM that runs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, HyperError, NotRunning
from hypercontainer.sandbox import SandboxClient, VMConfig, read_state, template
from tests.e2e.engine import ACCEL, ARCHITECTURE
from tests.e2e.rootfs import make_config
from tests.e2e.vms import Disks, execute, keep_templates, sandbox

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("two_cpus")]

# Each of two busy processes, on a CPU of its own.
_BOTH = """
work() { taskset $1 sh -c 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo done'; }
work 1 & work 2 & wait
cat /sys/devices/system/cpu/online
awk '/^cpu[01]/ && $2 + $4 {print $1}' /proc/stat
"""
_SEEN = b"done\ndone\n0-1\ncpu0\ncpu1\n"


async def _start(client: SandboxClient, disks: Disks) -> None:
    await client.create_container("c", make_config("sleep", "1000"), disks.rootfs())
    await client.start_container("c")


async def _use_both(client: SandboxClient, pid: str) -> bytes:
    return (await execute(client, "c", pid, make_config("sh", "-c", _BOTH)["process"])).stdout


async def test_a_running_vm_gets_another_cpu(tmp_path: Path) -> None:
    """One that has booted; as far as the machine has some."""
    async with sandbox(tmp_path, memory_mib=96) as client:
        await _start(client, Disks(tmp_path))
        assert (await client.info())["cpus"] == 1
        assert await client.plug_cpus(2) == 2
        assert await client.plug_cpus(1) == 2
        assert await _use_both(client, "both") == _SEEN
        state = read_state(str(client.state_dir))
        assert state is not None and state["cpus"] == 2
        with pytest.raises(BadRequest, match=r"4096 is more than the \d+ that this machine has"):
            await client.plug_cpus(4096)
        await client.update("c", {"cpu": {"quota": 200_000, "period": 100_000}})


async def test_a_clone_gets_another_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Than the template has; not while it is paused, and not what it does not know."""
    keep_templates(monkeypatch, tmp_path / "templates")
    vm: dict[str, Any] = {
        "accel": ACCEL,
        "template": "use",
        "architecture": ARCHITECTURE,
        "memory_mib": 96,
    }
    key = await asyncio.to_thread(template.make, VMConfig(**vm))
    try:
        async with sandbox(tmp_path, **vm) as client:
            assert (await client.info())["template"] == key
            await _start(client, Disks(tmp_path))
            await client.pause()
            with pytest.raises(NotRunning, match="is paused: it can't get more CPUs"):
                await client.plug_cpus(2)
            await client.resume()
            assert await client.plug_cpus(2) == 2
            assert await _use_both(client, "both") == _SEEN
    finally:
        template.remove(key)


async def test_a_guest_that_does_not_take_it(tmp_path: Path) -> None:
    """It was told of no other CPU by its kernel's arguments; it goes on with what it has."""
    async with sandbox(tmp_path, memory_mib=96, append="nr_cpus=1") as client:
        await _start(client, Disks(tmp_path))
        with pytest.raises(HyperError, match="the guest kernel knows of 1 CPUs, not of 2"):
            await client.plug_cpus(2)
        assert (await client.info())["cpus"] == 1
        ran = await execute(client, "c", "p", make_config("nproc")["process"])
        assert ran.stdout == b"1\n"
