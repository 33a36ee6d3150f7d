"""VMs that boot from flash alone, and what the firmware says of one that it can't boot."""

import asyncio
import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from firmware import cbfs as maker
from hypercontainer.guest import kernel
from hypercontainer.guest.kernel import GuestImage
from hypercontainer.hypervisor import cbfs, qemu_start
from hypercontainer.hypervisor import template as store
from hypercontainer.hypervisor.machine import bare_machine
from hypercontainer.sandbox import launch, read_state
from hypercontainer.sandbox import template as templates
from hypercontainer.sandbox.config import VMConfig
from hypercontainer.system.patience import patience
from tests.e2e import vms
from tests.e2e.engine import ACCEL
from tests.e2e.rootfs import make_tree
from tests.e2e.runv_process import Runv, subreaper

SOURCES = Path(__file__).parents[2] / "firmware"
BOUND = 30.0 * patience()


class Flash(NamedTuple):
    """Files to boot from."""

    bios: str
    cbfs: str


def build(directory: Path) -> Path:
    subprocess.run(["make", "-s", "-C", SOURCES, f"O={directory}"], check=True, timeout=BOUND)
    return directory / "firmware.rom"


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory, hyperkernel: None) -> Flash:
    directory = tmp_path_factory.mktemp("flash")
    bios = build(directory / "build")
    image = kernel.find()
    chosen = maker.choose_kernel(image, bios.stat().st_size)
    made = directory / "cbfs.rom"
    maker.make(made, chosen, Path(image.initrd), qemu_start.flash_arguments())
    return Flash(str(bios), str(made))


def test_the_same_sources_give_the_same_firmware(flash: Flash, tmp_path: Path) -> None:
    assert build(tmp_path / "again").read_bytes() == Path(flash.bios).read_bytes()


async def test_a_container_runs_in_a_vm_of_two_cpus_that_was_booted_from_flash(
    flash: Flash, tmp_path: Path
) -> None:
    async with vms.sandbox(tmp_path, cpus=2, append="from.flash", **flash._asdict()) as client:
        state = read_state(client.state_dir)
        assert state is not None
        qemu = Path(f"/proc/{state['vmm_pid']}/cmdline").read_bytes().split(b"\0")
        assert not {b"-kernel", b"-initrd", b"-append", b"-bios"} & set(qemu)
        assert state["kernel"] == flash.cbfs
        script = "nproc; cat /proc/cmdline; echo it > /file; cat /file"
        ran = await vms.run(client, vms.Disks(tmp_path).rootfs(), "sh", "-c", script)
    cpus, arguments, file = ran.stdout.decode().splitlines()
    assert (cpus, file) == ("2", "it")
    assert qemu_start.flash_arguments() in arguments
    assert arguments.endswith(" from.flash"), "what this VM adds"


async def test_clones_of_one_that_was_booted_from_flash(
    flash: Flash, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "templates"
    vms.keep_templates(monkeypatch, directory)
    config = VMConfig(accel=ACCEL, template="use", **flash._asdict())
    key = await asyncio.to_thread(templates.make, config)
    try:
        client = await launch("clone", tmp_path / "vm", config)
        try:
            state = read_state(client.state_dir)
            assert state is not None and state["template"] == key
            ran = await vms.run(client, vms.Disks(tmp_path).rootfs(), "echo", "cloned")
            assert ran.stdout == b"cloned\n"
            if (os.cpu_count() or 1) > 1:
                assert await client.plug_cpus(2) == 2
        finally:
            await client.kill()
    finally:
        store.remove(key)


def test_runv_warns_of_a_flash_that_holds_another_initrd(flash: Flash, tmp_path: Path) -> None:
    newer = tmp_path / "initrd"
    newer.write_bytes(Path(kernel.find().initrd).read_bytes() + bytes(512))
    with subreaper():
        runv = Runv(tmp_path, make_tree(tmp_path / "rootfs"))
        runv.flags += ["--bios", flash.bios, "--cbfs", flash.cbfs, "--initrd", str(newer)]
        done = runv.run("echo", "here")
    assert done.stdout == b"here\n"
    warning = f"runv: warning: cbfs {flash.cbfs} holds another initrd than {newer}, and VMs boot"
    assert done.stderr.decode().startswith(warning)
    assert len(done.stderr.splitlines()) == 1


def _cbfs(path: str, *arguments: str) -> None:
    subprocess.run(["cbfstool", path, *arguments], check=True, capture_output=True, timeout=BOUND)


def _overwrite(path: str, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(data)


def _no_pointer(path: str) -> None:
    _overwrite(path, -4, bytes(4))


def _wrong_size(path: str) -> None:
    _overwrite(path, -28, b"\xff\xff\xff\xff")


def _no_kernel(path: str) -> None:
    _cbfs(path, "remove", "-n", "vmlinuz")


def _no_initrd(path: str) -> None:
    _cbfs(path, "remove", "-n", "initrd")


def _too_long(path: str) -> None:
    _overwrite(path, 8, b"\x7f\xff\xff\xff")


def _no_linux(path: str) -> None:
    _overwrite(path, cbfs.read(path)["vmlinuz"].offset, bytes(4096))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_pointer, "cbfs: no master header"),
        (_wrong_size, "cbfs: the master header is damaged: sizes that can't be"),
        (_no_kernel, "cbfs: no kernel"),
        (_no_initrd, "cbfs: no initrd"),
        (_too_long, "cbfs: a file reaches beyond the end"),
        (_no_linux, "kernel: neither an ELF file of x86-64 nor a bzImage"),
    ],
)
def test_the_firmware_says_why_it_can_not_boot(
    flash: Flash, damage: Callable[[str], None], said: str, tmp_path: Path
) -> None:
    damaged = str(tmp_path / "cbfs.rom")
    shutil.copyfile(flash.cbfs, damaged)
    damage(damaged)
    assert _console_of(tmp_path, flash.bios, damaged, 64) == f"firmware: {said}\r\n"


def test_a_memory_that_is_too_small(flash: Flash, tmp_path: Path) -> None:
    said = _console_of(tmp_path, flash.bios, flash.cbfs, 20)
    assert said == "firmware: kernel: the memory is too small for it and its initrd\r\n"


def _console_of(directory: Path, bios: str, flash: str, memory_mib: int) -> str:
    """What a VM says until it ends by itself."""
    jail = directory / "jail"
    jail.mkdir()
    image = GuestImage(flash, flash, "flash", bios, flash)
    machine = bare_machine("damaged", ACCEL, image, str(jail), memory_mib=memory_mib)
    vmm = qemu_start.start(machine)
    said, deadline = b"", time.monotonic() + BOUND
    try:
        while (left := deadline - time.monotonic()) > 0:
            if select.select([vmm.console], [], [], left)[0]:
                with contextlib.suppress(ConnectionError):
                    if data := vmm.console.recv(4096):
                        said += data
                        continue
                return said.decode()
        raise TimeoutError(f"the VM did not end; it said {said!r}")
    finally:
        vmm.discard()
