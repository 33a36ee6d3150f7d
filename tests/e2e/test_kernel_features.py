"""hyperkernel does what its groups of options promise, tried in one VM that has every device."""

import re
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from hypercontainer.guest import kernel
from hypercontainer.hypervisor import qemu_start
from hyperkernel import build
from hyperkernel.flavours import QEMU
from hyperkernel.groups import groups
from hyperkernel.initrd import Entry, archive
from tests.e2e.rootfs import BUSYBOX, make_tree, make_upper

BOUND = 240.0
HERE = Path(__file__).parent
GROUPS = groups(QEMU.fragment())


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, timeout=BOUND, stdout=subprocess.DEVNULL)


def _libraries(program: str) -> list[str]:
    listed = subprocess.check_output(["ldd", program], text=True, timeout=BOUND)
    return re.findall(r"(/\S+) \(", listed)


def _initrd(directory: Path) -> Path:
    calls = directory / "kernel_calls"
    headers = ("/usr/include", "/usr/include/x86_64-linux-gnu")
    flags = [word for header in headers for word in ("-idirafter", header)]
    _run("musl-gcc", "-static", "-Os", "-s", *flags, "-o", calls, HERE / "kernel_calls.c")
    program = stat.S_IFREG | 0o755
    folders = [Entry(name, stat.S_IFDIR | 0o755) for name in ("bin", "dev", "kept", "proc", "sys")]
    path = directory / "initrd.img"
    path.write_bytes(
        archive(
            [
                *folders,
                Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
                Entry("bin/busybox", program, BUSYBOX.read_bytes()),
                Entry("kept/kernel_calls", program, calls.read_bytes()),
                Entry("init", program, (HERE / "kernel_features.sh").read_bytes()),
            ]
        )
    )
    return path


def _disks(directory: Path) -> list[Path]:
    """ext4, then one tree as squashfs of three compressions and as erofs."""
    tree = make_tree(directory / "tree")
    for file in ("/usr/sbin/nft", *_libraries("/usr/sbin/nft")):
        target = tree / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    disks = [make_upper(directory / "ext4.img")]
    for compression in ("lz4", "gzip", "zstd"):
        image = directory / f"{compression}.img"
        _run("mksquashfs", tree, image, "-comp", compression, "-quiet", "-no-progress")
        disks.append(image)
    _run("mkfs.erofs", "-zlz4", directory / "erofs.img", tree)
    return [*disks, directory / "erofs.img"]


def _table_of_cpus() -> list[str]:
    """The firmware that makes one; without ACPI the kernel finds its second CPU there."""
    qboot = Path("/usr/share/qemu/qboot.rom")
    return ["-bios", str(qboot)] if qboot.exists() else []


def _command(directory: Path) -> list[str]:
    share = directory / "share"
    share.mkdir()
    make_upper(share / "image", 8 << 20)
    argv = [
        *(qemu_start.binary(), "-M", "pc,accel=tcg", "-cpu", "max", "-nodefaults", "-no-reboot"),
        *("-display", "none", "-smp", "2", "-m", "192M,maxmem=4G", *_table_of_cpus()),
        *("-kernel", kernel.find().kernel, "-initrd", str(_initrd(directory))),
        *("-append", "console=ttyS0 loglevel=4 panic=-1 psi=1 reboot=t tsc=reliable acpi=off"),
        *("-serial", "stdio", "-serial", "null"),
        *("-device", "virtio-serial-pci", "-device", "virtio-rng-pci"),
        *("-device", "virtio-balloon-pci,free-page-reporting=on"),
        # Above the registers of cards, which without ACPI begin at 4 GiB.
        *("-object", "memory-backend-ram,id=more,size=128M"),
        *("-device", "virtio-mem-pci,memdev=more,memaddr=0x140000000,requested-size=128M"),
        *("-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="),
        *("-fsdev", f"local,id=share,path={share},security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=share,mount_tag=hyper"),
        *("-device", "virtio-scsi-pci,id=scsi0", "-device", "ich9-ahci,id=ahci"),
    ]
    disks = _disks(directory)
    for number, disk in enumerate(disks):
        argv += ["-drive", f"if=none,id=d{number},file={disk},format=raw,snapshot=on"]
        argv += ["-device", f"scsi-hd,drive=d{number},lun={number}"]
    argv += ["-drive", f"if=none,id=blk,file={disks[0]},format=raw,snapshot=on"]
    argv += ["-drive", f"if=none,id=ide,file={disks[1]},format=raw,snapshot=on"]
    return [*argv, "-device", "virtio-blk-pci,drive=blk", "-device", "ide-hd,drive=ide,bus=ahci.0"]


class Tried:
    """What the guest said: for each feature "ok" or what failed, and its own configuration."""

    def __init__(self, directory: Path) -> None:
        process = subprocess.Popen(
            _command(directory), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        watchdog = threading.Timer(BOUND, process.kill)
        watchdog.start()
        try:
            self.console = ""
            for line in process.stdout:
                self.console += line
                if line.startswith("features: all tried"):
                    break
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        said = re.findall(r"^feature ([\w-]+): (.*)$", self.console, re.MULTILINE)
        self.features = {name: result.strip() for name, result in said}
        config = directory / "share" / "config"
        self.config = config.read_text() if config.exists() else ""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, hyperkernel: None) -> Tried:
    return Tried(tmp_path_factory.mktemp("kernel"))


@pytest.mark.parametrize("name", [group.name for group in GROUPS])
def test_what_needs_the_group_works(tried: Tried, name: str) -> None:
    assert tried.features.get(name) == "ok", tried.console


def test_the_kernel_that_runs_has_every_option(tried: Tried) -> None:
    if not build.TARBALL.exists():
        pytest.skip("what hyperkernel is built from is not installed: run `make hyperkernel`")
    if _built().name != build.inputs_key():
        pytest.skip("hyperkernel is of other sources than these: run `make hyperkernel`")
    assert build.dropped_options(QEMU.fragment(), tried.config) == []


def test_the_kernel_is_small(hyperkernel: None) -> None:
    assert (_built() / "bzImage").stat().st_size < 3_000_000


def _built() -> Path:
    return Path(kernel.find().kernel).resolve().parent
