"""User Mode Linux without a VM: its console's format, its command line, what it refuses."""

import asyncio
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import cast

import pytest

from hypercontainer.errors import NotFound, NotSupported, VMError
from hypercontainer.guest import kernel
from hypercontainer.hypervisor import driver, mconsole, uml_driver, uml_start
from hypercontainer.hypervisor.driver import DiskKind
from hypercontainer.hypervisor.machine import Machine, Vmm
from hypercontainer.hypervisor.uml import UserModeLinux, _lun

MACHINE = Machine(
    *("box", "uml", 1, 64, "/usr/bin/linux.uml", "/initrd", "quiet extra=1", "", "none"),
    user_id=7,
    jail="/jail",
)


def answered(failed: int, more: int, text: bytes) -> bytes:
    return struct.pack("=III", failed, more, len(text)) + text


def test_a_request_is_padded_and_bounded() -> None:
    sent = mconsole.request("stop")
    assert struct.unpack_from("=III", sent) == (0xCAFEBABE, 2, 4)
    assert len(sent) == 12 + 512 and sent[12:17] == b"stop\0"
    with pytest.raises(VMError, match="too long"):
        mconsole.request("x" * 512)


def test_answers() -> None:
    assert mconsole.answer(answered(0, 0, b"OK\n\0")) == mconsole.Answer(False, False, "OK")
    assert mconsole.answer(answered(1, 1, b"no")) == mconsole.Answer(True, True, "no")
    for broken in (b"", b"\0" * 11, struct.pack("=III", 0, 0, 4) + b"abc"):
        with pytest.raises(VMError, match="no answer"):
            mconsole.answer(broken)


async def asked(directory: Path, answers: list[bytes]) -> str:
    """What a console of a directory says, when the VMM answers so."""
    (directory / "vm").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as vmm:
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own.bind(str(directory / "answers"))
        vmm.bind(str(directory / "vm/mconsole"))
        vmm.settimeout(10)
        console = mconsole.Console(own, place(directory), ("vm", "mconsole"))
        asking = asyncio.create_task(console.ask("config a=b", 10))
        question, sender = await asyncio.to_thread(vmm.recvfrom, 1024)
        assert question == mconsole.request("config a=b")
        for datagram in answers:
            vmm.sendto(datagram, sender)
        try:
            return await asking
        finally:
            console.close()


def place(directory: Path) -> int:
    return os.open(directory, os.O_PATH)


async def test_a_long_answer_comes_in_parts(tmp_path: Path) -> None:
    assert await asked(tmp_path, [answered(0, 1, b"one "), answered(0, 0, b"two")]) == "onetwo"


async def test_a_refusal_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(VMError, match="refused config a: why"):
        await asked(tmp_path, [answered(1, 0, b"why")])


async def test_a_link_in_the_place_of_the_socket_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(elsewhere / "mconsole"))
        other.setblocking(False)
        (tmp_path / "vm").symlink_to(elsewhere)
        console = mconsole.Console(
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            place(tmp_path),
            ("vm", "mconsole"),
        )
        with pytest.raises(VMError):
            await console.ask("stop", 0.2)
        console.close()
        with pytest.raises(BlockingIOError):
            other.recv(1)


def test_the_command_line() -> None:
    argv = uml_start.command(MACHINE, 5, 6, 7)
    for part in ("mem=64M", "ssl0=fd:5", "ssl1=fd:6", "con0=fd:7", "initrd=/initrd", "extra=1"):
        assert part in argv
    assert "noreboot" in argv and "hyper.ports=ttyS0,ttyS1" in argv


@pytest.mark.parametrize(
    ("path", "lun"),
    [("/disks/3", 3), ("/disks/14", 14), ("/disks/", -1), ("/disks/../3", -1), ("/disks/²", -1)],
)
def test_which_disk_a_path_is(path: str, lun: int) -> None:
    assert _lun(path) == lun


@pytest.mark.parametrize("kind", [DiskKind("qcow2"), DiskKind("raw", "directsync")])
async def test_disks_that_it_can_not_have(kind: DiskKind) -> None:
    vm = UserModeLinux(cast(Vmm, None), uml_driver.features("uml"))
    with tempfile.NamedTemporaryFile() as image, pytest.raises(NotSupported, match="raw images"):
        await vm.plug_disk(image.name, read_only=True, kind=kind)


def test_more_than_one_cpu_is_refused() -> None:
    with pytest.raises(NotSupported, match="has 1 CPU, not 2: ask for 1"):
        driver.check(MACHINE._replace(cpus=2), uml_driver.features("uml"))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path))
    monkeypatch.setattr(kernel, "INSTALLED", str(tmp_path))
    monkeypatch.setattr(kernel, "UML_PROGRAM", str(tmp_path / "linux.uml"))
    with pytest.raises(NotFound, match="install user-mode-linux"):
        kernel.find(flavour="uml")
    (tmp_path / "linux.uml").touch()
    with pytest.raises(NotFound, match="run `make uml`"):
        kernel.find(flavour="uml")
    (tmp_path / "hyper-initrd-uml.img").touch()
    found = kernel.find(flavour="uml")
    assert "is no program" in uml_driver.trouble("uml", found)


@pytest.mark.skipif(os.geteuid() != 0, reason="its jail takes root, which is told first")
def test_a_processor_with_more_registers_than_it_has_room_for_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = kernel.GuestImage("/bin/true", str(tmp_path / "initrd"), "uml")
    versions = {"6.1.176": (6, 1), "6.13": (6, 13), "": (0, 0)}
    for said, version in versions.items():
        program = tmp_path / f"linux-{said}"
        program.write_text(f"#!/bin/sh\necho {said}\n")
        program.chmod(0o755)
        assert uml_driver._version(str(program)) == version
    for wide, version, told in (
        (True, (6, 1), True),
        (False, (6, 1), False),
        (True, (6, 13), False),
    ):
        monkeypatch.setattr(uml_driver, "_has_wide_registers", lambda wide=wide: wide)
        monkeypatch.setattr(uml_driver, "_version", lambda program, version=version: version)
        assert ("AMX" in uml_driver.trouble("uml", image)) == told
