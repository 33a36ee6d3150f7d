"""VMs of User Mode Linux: real ones."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hypercontainer.errors import NotSupported
from hypercontainer.sandbox import SandboxClient, VMConfig, launch
from tests.e2e import leaks
from tests.e2e.engine import uml_trouble
from tests.e2e.rootfs import make_config, process
from tests.e2e.vms import BOUND, Disks, collect, execute, run, sandbox

UML_TROUBLE = uml_trouble()
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(UML_TROUBLE), reason=UML_TROUBLE),
]

SLEEP = ("sh", "-c", "while :; do sleep 1; done")


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxClient]:
    async with sandbox(tmp_path_factory.mktemp("vm"), accel="uml") as client:
        yield client


def processes_of(pid: int) -> list[int]:
    """The processes that are of the same namespace as `pid`, the first of it."""
    own = os.readlink(f"/proc/{pid}/ns/pid")
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == own:
                found.append(int(entry))
        except OSError:
            pass
    return found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_a_container_and_its_exit_code(vm: SandboxClient, disks: Disks) -> None:
    # Every byte, which a line that is not raw would change.
    data = bytes(range(256)) * 8
    ran = await run(vm, disks.rootfs(), "sh", "-c", "uname -r >&2; cat; exit 7", stdin=data)
    assert ran.stdout == data
    assert ran.stderr.startswith(b"6.")
    assert ran.status.code == 7
    # What ends the VM when its kernel does it is nothing but a signal in the guest.
    ran = await run(vm, disks.rootfs(), "sh", "-c", "sh -c 'kill -ABRT $$'; echo $?")
    assert ran.stdout == b"134\n"


async def test_far_more_than_a_line_holds_goes_both_ways(vm: SandboxClient, disks: Disks) -> None:
    data = os.urandom(1 << 20)
    ran = await run(vm, disks.rootfs(), "sh", "-c", "tee /dev/stderr | sha256sum", stdin=data)
    assert ran.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert hashlib.sha256(ran.stderr).digest() == hashlib.sha256(data).digest()
    ran = await run(vm, disks.rootfs(), "sh", "-c", "dd if=/dev/zero bs=65536 count=160")
    assert len(ran.stdout) == 10 << 20 and not ran.stdout.strip(b"\0")


async def test_a_specification_that_no_line_holds(vm: SandboxClient, disks: Disks) -> None:
    words = [os.urandom(1000).hex() for _ in range(100)]
    ran = await run(vm, disks.rootfs(), "sh", "-c", 'for w; do echo "$w"; done', "sh", *words)
    assert ran.stdout.decode().split() == words


async def test_two_containers_and_further_processes(vm: SandboxClient, disks: Disks) -> None:
    for name in ("one", "two"):
        await vm.create_container(name, make_config(*SLEEP), disks.rootfs())
        await vm.start_container(name)
    said = await execute(vm, "one", "e1", process("sh", "-c", "echo $$ > /own; ls -d /proc/[0-9]*"))
    # Only its own, the shell, its sleep and this one.
    assert said.status.code == 0 and len(said.stdout.split()) <= 5
    said = await execute(vm, "two", "e1", process("test", "-e", "/own"))
    assert said.status.code == 1
    for name in ("one", "two"):
        await vm.signal(name, "init", signal.SIGKILL)
        assert (await asyncio.wait_for(vm.wait(name), BOUND)).signal == signal.SIGKILL
        await vm.remove_container(name)


async def test_what_was_written_is_there_when_a_disk_comes_again(
    vm: SandboxClient, disks: Disks
) -> None:
    rootfs = disks.rootfs()
    for _ in range(2):
        assert (await run(vm, rootfs, "sh", "-c", "echo x >> /log; sync")).status.code == 0
    ran = await run(vm, rootfs, "sh", "-c", "wc -l < /log; test -e /dev/ubdb")
    assert ran.stdout.split() == [b"2"] and ran.status.code == 1


async def test_a_paused_vm_stands_still(vm: SandboxClient, disks: Disks) -> None:
    await vm.create_container("c", make_config("echo", "went on"), disks.rootfs())
    assert (await vm.info())["status"] == "running"
    await vm.pause()
    assert (await vm.info())["status"] == "paused"
    waiting = asyncio.create_task(collect(vm, "c", "init", None, start=True))
    assert not (await asyncio.wait([waiting], timeout=0.5))[0]
    await vm.resume()
    assert (await asyncio.wait_for(waiting, BOUND)).stdout == b"went on\n"
    await vm.remove_container("c")


async def test_it_has_no_rights_on_the_host(vm: SandboxClient) -> None:
    state = await vm.info()
    pid = state["vmm_pid"]
    for each in processes_of(pid):
        status = status_of(each)
        assert int(status["Uid"].split()[0]) >= 1 << 30
        assert status["CapEff"].strip("0") == status["CapBnd"].strip("0") == ""
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        for kind in ("mnt", "net", "ipc", "pid"):
            assert os.readlink(f"/proc/{each}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    assert not Path(f"/proc/{pid}/root/etc/passwd").exists()


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"cpus": 2}, "has 1 CPU, not 2"),
        ({"share": True}, "can't give a virtual machine directories"),
        ({"network": "user"}, "has no user-mode network"),
    ],
)
async def test_machines_that_it_can_not_be(tmp_path: Path, keys: dict[str, Any], why: str) -> None:
    with pytest.raises(NotSupported, match=why):
        await launch("test", tmp_path / "vm", VMConfig(**{"accel": "uml", **keys}))


async def test_a_kernel_that_panics_ends_the_vm(tmp_path: Path, disks: Disks) -> None:
    async with sandbox(tmp_path, accel="uml") as client:
        config = make_config("sh", "-c", "sleep 1; echo c > /proc/sysrq-trigger; sleep 99")
        await client.create_container("c", config, disks.rootfs())
        await client.start_container("c")
        ended = await asyncio.wait_for(client.wait("c"), BOUND)
        assert f"killed by signal {signal.SIGSYS:d}" in ended.reason
        assert "Kernel panic" in (client.state_dir / "console.log").read_text()


async def test_nothing_is_left_of_one_that_is_killed(tmp_path: Path, disks: Disks) -> None:
    with leaks.none(tmp_path, files=False):
        async with sandbox(tmp_path, accel="uml") as client:
            await client.create_container("c", make_config(*SLEEP), disks.rootfs())
            await client.start_container("c")
            state = await client.info()
            belonging = processes_of(state["vmm_pid"])
            # The kernel, hyperstart and the container at least.
            assert len(belonging) > 2
            os.kill(state["vmm_pid"], signal.SIGKILL)
            ended = await asyncio.wait_for(client.wait("c"), BOUND)
            assert "User Mode Linux was killed by signal 9" in ended.reason
            async with asyncio.timeout(BOUND):
                while any(Path(f"/proc/{pid}").exists() for pid in belonging):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
