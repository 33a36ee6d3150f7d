"""What is only true under a KVM that works: QEMU's rights on it, its clock, its network."""

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from hypercontainer.hypervisor import accel
from hypercontainer.hypervisor import template as store
from hypercontainer.sandbox import SandboxClient, VMConfig, launch, read_state
from hypercontainer.sandbox import template as maker
from tests.e2e.hyperd_process import wait_until
from tests.e2e.netns import NetHyperd, two_hosts
from tests.e2e.rootfs import make_config, process
from tests.e2e.vms import Disks, execute, keep_templates, run, sandbox


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


def vmm_of(client: SandboxClient) -> Path:
    """The /proc directory of a sandbox's QEMU."""
    state = read_state(client.state_dir)
    assert state is not None
    assert state["accel"] == "kvm"
    return Path("/proc", str(state["vmm_pid"]))


def open_files(vmm: Path) -> list[str]:
    return [os.readlink(fd) for fd in (vmm / "fd").iterdir()]


def status_of(vmm: Path) -> dict[str, str]:
    lines = (vmm / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_machine_has_the_stock_modules() -> None:
    for module in ("kvm_amd", "vhost_vsock", "vhost_net"):
        assert Path("/sys/module", module).is_dir()
    for device in ("kvm", "vhost-vsock", "vhost-net"):
        assert Path("/dev", device).is_char_device()


@pytest.mark.parametrize("mode", [0o600, 0o660])
async def test_qemu_has_kvm_and_nothing_else(tmp_path: Path, disks: Disks, mode: int) -> None:
    """Without root's rights, whomever the host's /dev/kvm belongs to."""
    device = Path(accel.DEVICE)
    before = device.stat().st_mode
    device.chmod(mode)
    try:
        async with sandbox(tmp_path, accel="kvm") as client:
            vmm = vmm_of(client)
            ran = await run(client, disks.rootfs(), "echo", "under KVM")
            assert ran.stdout == b"under KVM\n"
            status = status_of(vmm)
            assert {int(uid) for uid in status["Uid"].split()}.isdisjoint({0})
            assert status["Groups"] == ""
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
            assert os.listdir(vmm / "root" / "dev") == ["kvm"]
            assert any("kvm-vm" in name for name in open_files(vmm))
    finally:
        device.chmod(before)


async def test_with_a_share_it_keeps_what_serving_files_takes(tmp_path: Path) -> None:
    async with sandbox(tmp_path, accel="kvm", share=True) as client:
        status = status_of(vmm_of(client))
        # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, MKNOD.
        assert int(status["CapEff"], 16) == sum(1 << number for number in (0, 1, 2, 3, 4, 27))


async def test_the_guest_has_kvms_clock(tmp_path: Path, disks: Disks) -> None:
    async with sandbox(tmp_path, accel="kvm") as client:
        source = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        ran = await run(client, disks.rootfs(), "sh", "-c", f"cat {source}; date +%s")
        clock, seconds = ran.stdout.split()
        assert clock == b"kvm-clock"
        assert abs(int(seconds) - time.time()) < 10


async def test_a_clone_has_the_time_and_so_has_one_that_was_paused(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "templates"
    keep_templates(monkeypatch, directory)
    config = VMConfig(accel="kvm", template="use")
    key = await asyncio.to_thread(maker.make, config)
    try:
        client = await launch("clone", tmp_path / "clone", config)
        try:
            state = read_state(client.state_dir)
            assert state is not None
            assert (state["accel"], state["template"]) == ("kvm", key)
            await client.create_container("box", make_config("sleep", "3600"), disks.rootfs())
            await client.start_container("box")
            for number in range(2):
                ran = await execute(client, "box", f"date{number}", process("date", "+%s"))
                assert abs(int(ran.stdout) - time.time()) < 10
                await client.pause()
                await asyncio.sleep(15)
                await client.resume()
        finally:
            await client.kill()
    finally:
        store.remove(key)


def test_the_hosts_kernel_moves_packets(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    with two_hosts() as (host, _):
        hyperd = NetHyperd(tmp_path, host)
        try:
            hyperd.start()
            hyperd.load_image()
            box = hyperd.run("sh", "-c", "nc -l -p 5000 | sha256sum")
            vm = hyperd.vm_of(box)
            assert (vm["Accel"], vm["AccelReason"]) == ("kvm", "")
            assert "/dev/vhost-net" in open_files(Path("/proc", str(vm["VmmPid"])))
            listening = ("sh", "-c", "netstat -ltn | grep -q :5000")
            wait_until(lambda: hyperd.execute(box, *listening)[0] == 0, "nc")
            host.tcp(hyperd.address_of(box), 5000, data)
            wait_until(lambda: hyperd.output_of(box) != "", "the sum")
            assert hyperd.output_of(box).split()[0] == hashlib.sha256(data).hexdigest()
        finally:
            hyperd.close()
