"""The driver of VirtualBox, against a program that knows VBoxManage's grammar (vboxmanage.py)."""

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, Conflict, NotSupported, VMError
from hypercontainer.guest.kernel import GuestImage
from hypercontainer.hypervisor import vbox_commands as commands
from hypercontainer.hypervisor import vbox_driver as driver
from hypercontainer.hypervisor import vbox_keeper as keeper
from hypercontainer.hypervisor.disk_images import open_image
from hypercontainer.hypervisor.machine import Machine, Vmm
from tests.unit import vboxmanage

MACHINE = Machine(
    name="pod-1",
    accel="vbox",
    cpus=2,
    memory_mib=256,
    kernel="/k",
    initrd="/i",
    append="",
    share="",
    network="user",
    user_id=1879048200,
    jail="",
)
BOUND = 30.0


class Recorder:
    """The calls of VBoxManage, and the VMs that it knows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def calls(self) -> list[list[str]]:
        lines = (self.directory / "calls").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def machines(self) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = json.loads((self.directory / "machines").read_text())
        return found


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """VBoxManage in PATH, and a CD."""
    program = tmp_path / "bin" / "VBoxManage"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -IS {vboxmanage.__file__} {tmp_path / "vbox"} "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "vbox").mkdir()
    (tmp_path / "hyper.iso").write_bytes(b"cd")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path))
    return Recorder(tmp_path / "vbox")


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Its directory's name is short, since sockets are in it."""
    with tempfile.TemporaryDirectory() as directory:
        yield MACHINE._replace(jail=directory)


@pytest.fixture
def vmm(recorder: Recorder, machine: Machine) -> Iterator[Vmm]:
    vmm = driver.start(machine)
    try:
        yield vmm
    finally:
        vmm.discard()


async def read(end: object, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(BOUND):
        while len(data) < size and (part := await loop.sock_recv(end, size)):  # type: ignore[arg-type]
            data += part
    return data


async def ended(vmm: Vmm) -> int:
    """The exit code of the keeper, which the fixture reaps."""
    async with asyncio.timeout(BOUND):
        found = await asyncio.to_thread(os.waitid, os.P_PID, vmm.pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status


async def test_the_guest_is_reached_over_the_serial_ports(
    recorder: Recorder, vmm: Vmm, machine: Machine
) -> None:
    assert (await read(vmm.control, 8))[:4] == b"\0\0\0\x08"
    assert await read(vmm.console, 5) == b"a lin"
    await driver.monitor(machine, vmm).connect(BOUND)
    created = recorder.machines["pod-1"]
    assert (created["memory"], created["cpus"], created["nic1"]) == ("256", "2", "nat")
    assert (created["uart1"], created["uart2"]) == ("0x3F8 4", "0x2F8 3")
    assert created["disks"] == {"cd 0": str(recorder.directory.parent / "hyper.iso")}
    assert created["boot1"] == "dvd"


async def test_nothing_stays_of_a_vm_that_is_ended(recorder: Recorder, vmm: Vmm) -> None:
    await read(vmm.control, 8)
    vmm.kill()
    assert await read(vmm.streams, 1) == b"", "the ports are closed"
    await ended(vmm)
    assert recorder.machines == {}
    assert ["controlvm", "pod-1", "poweroff"] in recorder.calls
    assert recorder.calls[-1] == ["unregistervm", "pod-1"]


async def test_a_guest_that_powers_off_ends_its_keeper(recorder: Recorder, vmm: Vmm) -> None:
    await read(vmm.control, 8)
    commands.run(commands.control("pod-1", "poweroff"))
    assert await ended(vmm) == 0
    assert recorder.machines == {}


def test_one_that_a_killed_keeper_left_makes_room(recorder: Recorder) -> None:
    pipes = commands.Pipes("/c", "/s", "/o")
    cd = str(recorder.directory.parent / "hyper.iso")
    for command in commands.create(MACHINE, "/d", cd, pipes):
        commands.run(command)
    assert keeper.state("pod-1") == "poweroff"
    keeper.clear("pod-1")
    assert keeper.state("pod-1") is None
    keeper.clear("pod-1")


async def test_disks_are_plugged_and_what_was_written_comes_back(
    recorder: Recorder, vmm: Vmm, machine: Machine, tmp_path: Path
) -> None:
    monitor = driver.monitor(machine, vmm)
    await monitor.connect(BOUND)
    layer, upper = tmp_path / "layer", tmp_path / "upper"
    layer.write_bytes(b"layer")
    upper.write_bytes(b"upper")
    assert await monitor.plug_disk(str(layer), read_only=True) == 0
    assert await monitor.plug_disk(str(upper), read_only=False) == 1
    disks: dict[str, str] = recorder.machines["pod-1"]["disks"]  # type: ignore[assignment]
    images = [Path(disks[f"disks {port}"]) for port in (0, 1)]
    assert [image.read_bytes() for image in images] == [b"layer", b"upper"]
    # They go with the sandbox's directory.
    assert all(image.is_relative_to(machine.jail) for image in images)
    with pytest.raises(Conflict, match="in use by another virtual machine"):
        await open_image(str(upper), read_only=False)
    images[0].write_bytes(b"by a guest that may not")
    images[1].write_bytes(b"by the guest")
    for port in (0, 1):
        await monitor.unplug_disk(port)
    assert (layer.read_bytes(), upper.read_bytes()) == (b"layer", b"by the guest")
    assert not any(image.exists() for image in images)
    assert await monitor.plug_disk(str(upper), read_only=False) == 0
    await monitor.close()
    assert not images[0].parent.exists()
    os.close(await open_image(str(upper), read_only=False))


async def test_what_it_can_not_do_is_refused(
    recorder: Recorder, vmm: Vmm, machine: Machine, tmp_path: Path
) -> None:
    monitor = driver.monitor(machine, vmm)
    await monitor.connect(BOUND)
    with pytest.raises(BadRequest, match="No such file"):
        await monitor.plug_disk("/no/disk", read_only=True)
    with pytest.raises(NotSupported, match="VirtualBox can't have a card of a bridge"):
        await monitor.plug_network("eth0", 0, "52:54:00:00:00:01")
    with pytest.raises(VMError, match="30 disks at most"):
        await monitor.plug_disk(str(recorder.directory / "calls"), read_only=True, lun=30)
    await monitor.close()


async def test_ports_and_pause(recorder: Recorder, vmm: Vmm, machine: Machine) -> None:
    monitor = driver.monitor(machine, vmm)
    await monitor.connect(BOUND)
    await monitor.forward_port("tcp", "127.0.0.1", 8080, 80)
    assert recorder.machines["pod-1"]["rules"] == ["tcp-127.0.0.1-8080,tcp,127.0.0.1,8080,,80"]
    with pytest.raises(Conflict, match="already exists"):
        await monitor.forward_port("tcp", "127.0.0.1", 8080, 80)
    await monitor.unforward_port("tcp", "127.0.0.1", 8080)
    assert recorder.machines["pod-1"]["rules"] == []
    await monitor.pause()
    assert keeper.state("pod-1") == "paused"
    await monitor.resume()
    assert keeper.state("pod-1") == "running"
    await monitor.close()


def test_why_it_can_not_run(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = GuestImage("/k", "/i", "hyperkernel")
    assert driver.trouble("vbox", image) == ""
    assert "unset Kernel" in driver.trouble("vbox", image._replace(kind="custom"))
    monkeypatch.setattr(commands, "INSTALLED", str(tmp_path))
    (tmp_path / "hyper.iso").unlink()
    assert driver.trouble("vbox", image) == "there is no CD to boot: run `make iso`"
    monkeypatch.setenv("PATH", "/nowhere")
    assert driver.trouble("vbox", image).startswith("VBoxManage not found: install VirtualBox")


@pytest.mark.parametrize(
    "call",
    [
        ["modifyvm", "vm", "--uart1=0x3F8"],
        ["modifyvm", "vm", "--nic1=user"],
        ["modifyvm", "vm", "--chip=x"],
        ["storagectl", "vm", "--name=x", "--add=virtio"],
        ["controlvm", "vm", "natpf1", "rule,tcp,,80"],
        ["controlvm", "vm", "stop"],
        ["startvm"],
    ],
)
def test_the_recorder_refuses_what_is_not_in_the_grammar(call: list[str]) -> None:
    with pytest.raises(SystemExit):
        vboxmanage.parse(call[0], call[1:])


def test_a_signal_ends_it_as_it_ends_qemu(vmm: Vmm) -> None:
    assert vmm.end_signal == signal.SIGTERM
