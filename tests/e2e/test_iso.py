"""A VM that boots from the CD alone, by a BIOS, as VirtualBox would make it.

Its guest is reached over serial ports, and its disks are on a controller of AHCI.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.guest import kernel, spec
from hypercontainer.guest.connection import ControlConnection
from hypercontainer.guest.protocol import Code
from hypercontainer.guest.streams import StreamChannel
from hypercontainer.hypervisor import qemu_start
from hypercontainer.sandbox.containers import Process
from hypercontainer.system.patience import patience
from hyperkernel import iso
from tests.e2e.engine import ACCEL
from tests.e2e.rootfs import make_config, make_squashfs, make_tree, make_upper

BOUND = 60.0 * patience()
# Every byte, which a line that is not raw would change; more than a UART's and a line's buffers.
DATA = bytes(range(256)) * 256
# Ports of the controller.
LAYER, UPPER = 1, 4


@pytest.fixture
def image(tmp_path: Path, hyperkernel: None) -> Path:
    found = kernel.find()
    made = tmp_path / "hyper.iso"
    iso.make(made, iso.kernel_of(found), Path(found.initrd))
    return made


class Guest:
    """The guest of a VM that has booted from a CD."""

    def __init__(self, control: ControlConnection, streams: StreamChannel) -> None:
        self.control = control
        self.streams = streams
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def request(self, code: Code, payload: dict[str, Any]) -> dict[str, Any]:
        return await self.control.request(code, payload, timeout=BOUND)

    async def cat(self, data: bytes) -> bytes:
        """What a container's `cat` makes of data: over the serial ports to a disk, and back."""
        process = Process(self.streams, "init", terminal=False, stdin=True, hold=False)
        said: list[bytes] = []
        assert process.stdin is not None
        output = self.streams.output(process.stdio)
        ended = asyncio.Event()

        def take(part: bytes) -> None:
            output.grant(len(part))
            said.append(part)
            if not part:
                ended.set()

        output.on_data = take
        config = make_config("sh", "-c", "cat > /data; sync; cat /data")
        message = spec.container_message(
            "c",
            config,
            {
                "kind": "overlay",
                "lower": [{"disk": f"0:{LAYER}", "fstype": "squashfs"}],
                "upper": {"disk": f"0:{UPPER}", "fstype": "ext4"},
            },
            lambda source, read_only: "",
            spec.process_message(
                "init", config["process"], stdio=process.stdio, stderr=process.stderr, stdin=True
            ),
        )
        await self.request(Code.NEWCONTAINER, {**message, "files": [], "join": {}})
        await self.request(Code.STARTCONTAINER, {"container": "c"})
        for start in range(0, len(data), 4096):
            await process.stdin.writable()
            process.stdin.write(data[start : start + 4096])
        process.stdin.close()
        status = await asyncio.wait_for(self.ended, BOUND)
        assert status["code"] == 0
        async with asyncio.timeout(BOUND):
            await ended.wait()
        return b"".join(said)


@contextlib.asynccontextmanager
async def booted(
    image: Path, disks: dict[int, Path]
) -> AsyncIterator[tuple[Guest, asyncio.subprocess.Process]]:
    """A PC as QEMU has it by default, with a BIOS, and no kernel but that of the CD."""
    pairs = [socket.socketpair() for _ in range(2)]
    argv = [
        *(qemu_start.binary(), "-M", f"pc,accel={ACCEL}", "-cpu", "max", "-m", "128M"),
        *("-nodefaults", "-display", "none", "-no-reboot", "-cdrom", str(image)),
        *("-device", "ich9-ahci,id=ahci"),
    ]
    for port, disk in disks.items():
        argv += ["-drive", f"if=none,id=d{port},file={disk},format=raw"]
        argv += ["-device", f"ide-hd,drive=d{port},bus=ahci.{port}"]
    for number, (_, theirs) in enumerate(pairs):
        argv += ["-chardev", f"socket,id=s{number},fd={theirs.fileno()}"]
        argv += ["-serial", f"chardev:s{number}"]
    qemu = await asyncio.create_subprocess_exec(
        *argv, pass_fds=[theirs.fileno() for _, theirs in pairs]
    )
    for ours, theirs in pairs:
        ours.setblocking(False)
        theirs.close()
    broken: list[str] = []
    try:
        streams = await StreamChannel.open(pairs[1][0], broken.append)
        guest: list[Guest] = []
        control = await ControlConnection.open(
            pairs[0][0], lambda event: guest[0].ended.set_result(event), broken.append
        )
        guest.append(Guest(control, streams))
        yield guest[0], qemu
        assert not broken
    finally:
        with contextlib.suppress(ProcessLookupError):
            qemu.kill()
        await qemu.wait()


@pytest.mark.timeout(600)
async def test_a_container_in_a_vm_that_has_booted_from_a_cd(image: Path, tmp_path: Path) -> None:
    layer = make_squashfs(make_tree(tmp_path / "tree"), tmp_path / "layer.img")
    disks = {LAYER: layer, UPPER: make_upper(tmp_path / "upper.img")}
    async with booted(image, disks) as (guest, qemu):
        greeting = await asyncio.wait_for(guest.control.ready, BOUND)
        assert "squashfs" in greeting["features"]
        guest.streams.bound(greeting)
        await guest.request(Code.STARTPOD, {"hostname": "cd"})
        assert await guest.cat(DATA) == DATA
        await guest.request(Code.REMOVECONTAINER, {"container": "c"})
        await guest.request(Code.DESTROYPOD, {})
        assert await asyncio.wait_for(qemu.wait(), BOUND) == 0
