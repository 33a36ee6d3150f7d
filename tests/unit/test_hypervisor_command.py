"""QEMU's command line: only what a VM needs, nothing that a name or path can change."""

import itertools
import os
import re
import shutil
from pathlib import Path

import pytest

from hypercontainer.errors import VMError
from hypercontainer.hypervisor import giveback
from hypercontainer.hypervisor.machine import Machine
from hypercontainer.hypervisor.qemu_start import command

FDS = {"monitor": 11, "console": 12, "control": 13, "streams": 14}
MACHINE = Machine(
    name="web",
    accel="tcg",
    cpus=1,
    memory_mib=128,
    kernel="/k",
    initrd="/i",
    append="",
    share="",
    network="none",
    user_id=1879048200,
    jail="",
)


@pytest.fixture(autouse=True)
def qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPER_QEMU", "true")


def options(machine: Machine, name: str) -> list[str]:
    argv = command(machine, FDS)
    return [value for key, value in itertools.pairwise(argv) if key == name]


def test_there_is_no_device_that_is_not_asked_for() -> None:
    argv = command(MACHINE, FDS)
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(argv)
    devices = [value.partition(",")[0] for value in options(MACHINE, "-device")]
    assert devices == [
        "virtio-serial-pci",
        "virtserialport",
        "virtserialport",
        "virtio-scsi-pci",
    ]
    assert options(MACHINE, "-netdev") == options(MACHINE, "-fsdev") == []
    assert options(MACHINE, "-display") == ["none"]


def test_qemu_confines_itself() -> None:
    (sandbox,) = options(MACHINE, "-sandbox")
    for rule in ("on", "obsolete=deny", "elevateprivileges=deny", "spawn=deny"):
        assert rule in sandbox.split(",")


def test_the_channels_are_descriptors_and_nothing_listens() -> None:
    chardevs = options(MACHINE, "-chardev")
    assert sorted(re.findall(r"fd=(\d+)", " ".join(chardevs))) == ["11", "12", "13", "14"]
    assert not re.search(r"path=|server|host=|port=", " ".join(chardevs))


@pytest.mark.parametrize(
    ("accel", "cpu", "cpus"), [("kvm", "host", 4), ("tcg", "max", 1), ("tcg", "max", 2)]
)
def test_the_engine(accel: str, cpu: str, cpus: int) -> None:
    machine = MACHINE._replace(accel=accel, cpus=cpus)
    assert options(machine, "-accel")[0].partition(",")[0] == accel
    assert options(machine, "-cpu")[0].partition(",")[0] == cpu
    assert options(machine, "-smp") == [str(cpus)]
    assert options(machine, "-m") == ["128M,maxmem=38016M"]


@pytest.mark.parametrize(("accel", "plugins"), [("kvm", 0), ("tcg", 1)])
def test_the_library_is_loaded_into_the_qemu_that_it_was_built_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accel: str, plugins: int
) -> None:
    qemu = tmp_path / "qemu"
    shutil.copy("/bin/true", qemu)
    monkeypatch.setenv("HYPER_QEMU", str(qemu))
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path))
    machine = MACHINE._replace(accel=accel)
    assert "LD_PRELOAD" not in giveback.environment(str(qemu))

    status = qemu.stat()
    library = tmp_path / f"hyper-giveback-{status.st_size}-{int(status.st_mtime)}.so"
    library.touch()
    devices = options(machine, "-device")
    assert [d.partition(",")[0] for d in devices].count("virtio-balloon-pci") == 1
    assert "free-page-reporting=on" in ",".join(devices)
    assert [p.partition(",")[0] for p in options(machine, "-plugin")] == plugins * [str(library)]
    assert giveback.environment(str(qemu))["LD_PRELOAD"] == str(library)
    stub = library.with_name(f"{library.stem}-pmem.so")
    stub.touch()
    assert giveback.environment(str(qemu))["LD_PRELOAD"] == f"{library} {stub}"

    os.utime(qemu, (1, 1))
    assert options(machine, "-plugin") == []
    assert "LD_PRELOAD" not in giveback.environment(str(qemu))


def test_what_is_appended_comes_last() -> None:
    plain, own = options(MACHINE, "-append")[0], options(MACHINE._replace(append="a=b"), "-append")
    assert own == [f"{plain} a=b"]
    assert "console=ttyS0" in plain.split()
    assert "panic=-1" in plain.split()


def test_a_share_is_named_by_its_path_whatever_it_holds() -> None:
    share = "/run/x,security_model=none,y/share"
    (fsdev,) = options(MACHINE._replace(share=share), "-fsdev")
    assert "path=/run/x,,security_model=none,,y/share," in fsdev
    assert fsdev.count("security_model=passthrough") == 1


def test_a_share_by_virtiofs_is_not_qemus_and_its_memory_is_shared() -> None:
    machine = MACHINE._replace(share="/s", share_driver="virtiofs", memory_fd=9)
    assert options(machine, "-fsdev") == []
    assert options(machine, "-device") == options(MACHINE, "-device")
    for incoming in (False, True):
        (memory,) = options(machine._replace(incoming=incoming), "-object")
        assert "share=on" in memory.split(",")
    (memory,) = options(MACHINE._replace(memory_fd=9, incoming=True), "-object")
    assert "share=off" in memory.split(",")


def test_a_network_only_when_asked_for() -> None:
    machine = MACHINE._replace(network="user")
    assert options(machine, "-netdev") == ["user,id=net0"]
    assert any(d.startswith("virtio-net-pci") for d in options(machine, "-device"))


def test_a_missing_qemu_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPER_QEMU")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(VMError, match="apt-get install qemu-system-x86"):
        command(MACHINE, FDS)


def test_a_flash_takes_the_place_of_the_kernel() -> None:
    machine = MACHINE._replace(bios="/b", cbfs="/c,d", append="a=1,2", accel="kvm")
    drives = options(machine, "-drive")
    assert drives == [
        "if=pflash,unit=0,format=raw,readonly=on,file=/b",
        "if=pflash,unit=1,format=raw,readonly=on,file=/c,,d",
    ]
    assert options(machine, "-fw_cfg") == ["name=opt/org.hypercontainer/append,string=a=1,,2"]
    assert not {"-kernel", "-initrd", "-append", "-bios"} & set(command(machine, FDS))
    assert options(MACHINE, "-drive") == options(MACHINE, "-fw_cfg") == []


def test_another_firmware_for_the_same_kernel() -> None:
    machine = MACHINE._replace(bios="/b")
    assert options(machine, "-bios") == ["/b"]
    assert options(machine, "-kernel") == ["/k"]


def test_a_kernel_that_may_get_cpus_is_started_by_a_program() -> None:
    machine = MACHINE._replace(kernel="/k,l", most_cpus=4)
    argv = command(machine, {**FDS, "starter": 15})
    assert argv[argv.index("-kernel") + 1] == "/proc/self/fd/15"
    assert "loader,file=/k,,l" in argv
    assert options(machine, "-smp") == ["1,maxcpus=4"]
    assert " maxcpus=1 " in options(machine, "-append")[0]
    at_its_most = machine._replace(cpus=4)
    assert options(at_its_most, "-smp") == ["4"]
    assert options(at_its_most, "-kernel") == ["/k,l"]
    assert "maxcpus" not in options(at_its_most, "-append")[0]
