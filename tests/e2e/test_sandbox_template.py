"""Clones of a booted VM: what they share, what they must not, and what happens to bad templates."""

import asyncio
import contextlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hypercontainer.errors import VMError
from hypercontainer.guest.platforms import NATIVE
from hypercontainer.hypervisor import template as store
from hypercontainer.sandbox import SandboxClient, VMConfig, launch, read_state
from hypercontainer.sandbox import template as maker
from tests.e2e import vms
from tests.e2e.engine import ACCEL, ARCHITECTURE
from tests.e2e.rootfs import make_config, process


def vm_config(template: str = "use") -> VMConfig:
    return VMConfig(
        accel=ACCEL,
        memory_mib=96,
        template=template,
        network="user",
        architecture=ARCHITECTURE,
    )


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> vms.Disks:
    return vms.Disks(tmp_path_factory.mktemp("disks"))


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of templates of this test's own."""
    directory = tmp_path / "templates"
    vms.keep_templates(monkeypatch, directory)
    yield directory
    for name in store.names():
        store.remove(name)


@contextlib.asynccontextmanager
async def cloned(tmp_path: Path, name: str) -> AsyncIterator[SandboxClient]:
    client = await launch(name, tmp_path / name, vm_config())
    try:
        yield client
    finally:
        await client.kill()


def template_of(client: SandboxClient) -> str:
    state = read_state(client.state_dir)
    assert state is not None
    return str(state["template"])


async def make() -> str:
    return await asyncio.to_thread(maker.make, vm_config())


async def test_clones_differ_where_they_must(
    templates: Path, tmp_path: Path, disks: vms.Disks
) -> None:
    key = await make()
    assert [t["key"] for t in maker.listing()] == [key]
    assert await make() == key, "a template that is there is not made again"
    seen = []
    async with cloned(tmp_path, "one") as one, cloned(tmp_path, "two") as two:
        for client in (one, two):
            assert template_of(client) == key
            config = make_config("sleep", "600")
            del config["hostname"]
            config["linux"]["namespaces"] = [{"type": "mount"}]
            await client.create_container("c", config, disks.rootfs())
            await client.start_container("c")
            random = "/proc/sys/kernel/random/uuid"
            files = f"{random} /proc/1/root/run/hyper/machine-id /sys/class/net/eth0/address"
            script = f"cat {files}; od -An -N16 -tx1 /dev/urandom; hostname; date +%s"
            ran = await vms.execute(client, "c", "look", process("sh", "-c", script))
            assert ran.status.code == 0, ran.stderr
            seen.append(ran.stdout.decode().splitlines())
    (*one_has, host1, time1), (*two_has, host2, time2) = seen
    assert (host1, host2) == ("one", "two")
    assert len(one_has) == len(two_has) == 4
    assert not set(one_has) & set(two_has), "uuid, machine-id, MAC, randomness"
    for stamp in (time1, time2):
        assert abs(int(stamp) - time.time()) < 30


@pytest.mark.skipif(ARCHITECTURE != NATIVE, reason="only an x86 has a PIT")
@pytest.mark.skipif(ACCEL != "tcg", reason="only an emulated CPU is started without its timer")
@pytest.mark.usefixtures("hyperkernel")
async def test_an_idle_clone_is_not_woken_by_the_pit(
    templates: Path, tmp_path: Path, disks: vms.Disks
) -> None:
    await make()
    async with cloned(tmp_path, "idle") as client:
        await client.create_container("c", make_config("sleep", "600"), disks.rootfs())
        await client.start_container("c")
        script = "for i in 1 2; do grep -E '^ *(0|LOC):' /proc/interrupts; sleep 1; done; "
        script += "dmesg | grep -i apic"
        ran = await vms.execute(client, "c", "look", process("sh", "-c", script))
    lines = ran.stdout.decode().splitlines()
    why = lines[4:]
    pit1, own1, pit2, own2 = (int(line.split()[1]) for line in lines[:4])
    assert pit1 == pit2, why
    assert own1 < own2


async def test_nobody_can_change_a_template(templates: Path) -> None:
    key = await make()
    described = store.describe(key)
    assert described is not None
    fd = os.open(f"/proc/{described['holder']}/fd/3", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)
    assert templates.stat().st_mode & 0o077 == 0


async def test_a_damaged_template_is_not_used(
    templates: Path, tmp_path: Path, disks: vms.Disks
) -> None:
    key = await make()
    state = templates / key / "state"
    content = bytearray(state.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    state.write_bytes(content)
    async with cloned(tmp_path, "damaged") as client:
        assert template_of(client) == ""
        ran = await vms.run(client, disks.rootfs(), "echo", "booted")
        assert ran.stdout == b"booted\n"
    assert store.names() == [], "it is removed"


async def test_a_truncated_or_orphaned_template_is_passed_over(
    templates: Path, tmp_path: Path
) -> None:
    key = await make()
    state = templates / key / "state"
    state.write_bytes(state.read_bytes()[:-1])
    async with cloned(tmp_path, "truncated") as client:
        assert template_of(client) == ""
    store.remove(key)
    key = await make()
    described = store.describe(key)
    assert described is not None
    os.kill(described["holder"], 9)
    async with cloned(tmp_path, "orphaned") as client:
        assert template_of(client) == ""
    assert not maker.listing()[0]["usable"]


async def test_a_cold_start_makes_the_template_of_the_next(templates: Path, tmp_path: Path) -> None:
    client = await launch("first", tmp_path / "first", vm_config("auto"))
    assert template_of(client) == ""
    async with asyncio.timeout(60):
        while not any(t["usable"] for t in maker.listing()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await client.kill()
    async with cloned(tmp_path, "second") as second:
        assert template_of(second) == maker.listing()[0]["key"]


def test_templates_by_hand(templates: Path) -> None:
    def hyper(*args: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("hyper")), "template", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    made = hyper("create", "--memory", "96", "--driver", ACCEL)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert hyper("ls", "-q").stdout.split() == [key]
    (described,) = json.loads(hyper("ls", "--format", "json").stdout)
    assert (described["usable"], described["memory_mib"]) == (True, 96)
    assert "96 MiB" in hyper("ls").stdout
    # What another VM may use stays when one more is made.
    other = hyper("create", "--memory", "104", "--driver", ACCEL).stdout.strip()
    assert hyper("ls", "-q").stdout.split() == [key, other]
    assert hyper("rm", other).stdout.strip() == other
    missing = hyper("rm", "0123")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("hyper: no such template: 0123")
    assert hyper("rm", key[:8]).stdout.strip() == key
    assert hyper("ls", "-q").stdout == ""
    assert hyper("create", "--memory", "1").stderr.count("\n") == 1


async def test_where_no_template_can_be_kept_vms_boot(
    tmp_path: Path, disks: vms.Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "templates"
    place.write_text("not a directory\n")
    vms.keep_templates(monkeypatch, place)
    with pytest.raises(VMError, match="template: "):
        await make()
    client = await launch("boots", tmp_path / "boots", vm_config("auto"))
    try:
        ran = await vms.run(client, disks.rootfs(), "echo", "booted")
        assert ran.stdout == b"booted\n"
    finally:
        await client.kill()


async def test_a_template_of_other_arguments_is_not_used(templates: Path, tmp_path: Path) -> None:
    await make()
    config = VMConfig(accel=ACCEL, memory_mib=96, template="use", append="quiet")
    client = await launch("other", tmp_path / "other", config)
    try:
        assert template_of(client) == ""
    finally:
        await client.kill()
