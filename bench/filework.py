"""What is worked on by `filework.sh`, and a guest of QEMU without our sandbox that runs it."""

import os
import random
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.guest import kernel
from hypercontainer.hypervisor import accel, virtiofs
from hyperkernel.initrd import DIRECTORIES, Entry, archive

from . import debian

FILES = int(os.environ.get("HYPER_BENCH_FILES", "20000"))
SECONDS = 3
MEMORY_MIB = 512
BOUND = 3600.0
SCRIPT = Path(__file__).with_name("filework.sh")
DRIVERS = os.environ.get("HYPER_BENCH_DRIVERS", "block,virtiofs,9p").split(",")
# Name, unit, what it is, and whether more is better.
WORK = (
    ("read_4k", "MB/s", "fio, 4k random reads", True),
    ("write_4k", "MB/s", "fio, 4k random writes", True),
    ("read_1m", "MB/s", "fio, 1M reads", True),
    ("write_1m", "MB/s", "fio, 1M writes", True),
    ("tree_to_tar", "s", f"tar of {FILES:,} files, cold", False),
    ("git_status", "s", "git status, cold", False),
    ("git_status_again", "s", "git status, again", False),
    ("tar_to_tree", "s", f"{FILES:,} files from a tar, and sync", False),
    ("removal", "s", "their removal, and sync", False),
)
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir /root /disk
mount -t squashfs /dev/vda /root
mount -t tmpfs tmpfs /root/tmp
mount -t proc proc /root/proc
mount --bind /dev /root/dev
cp /filework.sh /root/tmp
for word in $(cat /proc/cmdline); do case $word in share=*) share=${word#share=};; esac; done
case $share in
block) mount -t ext4 /dev/vdb /disk && mount --bind /disk/_data /root/mnt ;;
9p) mount -t 9p -o trans=virtio,version=9p2000.L bench /root/mnt ;;
*) mount -t virtiofs bench /root/mnt ;;
esac
chroot /root /bin/bash /tmp/filework.sh /mnt @SECONDS@
reboot -f
"""


def tools(directory: Path) -> Path:
    """A squashfs image of a Debian with the programs of the script."""
    root = debian.system("fio", "git", "tar", "bash", "coreutils")
    for name in ("mnt", "work"):
        (root / name).mkdir(exist_ok=True)
    image = directory / "tools.squashfs"
    _run("mksquashfs", str(root), str(image), "-comp", "lz4", "-no-progress", "-quiet")
    return image


def make_data(directory: Path) -> None:
    """A git repository with many small files, and a tar of them; the same ones each time."""
    tree = directory / "tree"
    draw = random.Random(1)
    for number in range(FILES):
        below = tree / f"d{number // 100:03}"
        if number % 100 == 0:
            below.mkdir(parents=True)
        (below / f"f{number}").write_bytes(draw.randbytes(draw.randrange(200, 2000)))
    _run("tar", "-C", str(tree), "-cf", str(directory / "files.tar"), ".")
    git = ("git", "-C", str(tree), "-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all"), ("repack", "-adq")):
        _run(*git, "-c", "gc.auto=0", *command)


class Data:
    """Copies of the data, each for one run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._original = directory / "data" / "_data"
        self._original.mkdir(parents=True)
        make_data(self._original)
        self._disk = directory / "disk.img"
        with self._disk.open("xb") as file:
            file.truncate(2 << 30)
        _run("mkfs.ext4", "-q", "-F", "-d", str(directory / "data"), str(self._disk))

    @contextmanager
    def tree(self) -> Iterator[Path]:
        """A directory."""
        place = self._directory / "tree"
        _run("cp", "-a", str(self._original), str(place))
        try:
            yield place
        finally:
            shutil.rmtree(place)

    @contextmanager
    def disk(self) -> Iterator[Path]:
        """An image of an ext4 file system with the data in `_data`."""
        place = self._directory / "copy.img"
        _run("cp", "--sparse=always", str(self._disk), str(place))
        try:
            yield place
        finally:
            place.unlink()


def parse(output: str) -> dict[str, float]:
    """The script's results in the units of WORK. Raises RuntimeError when it did not end."""
    found = {name: float(value) for name, value in re.findall(r"RESULT (\w+) (\d+)", output)}
    if "end" not in found:
        raise RuntimeError(f"the work did not end:\n{output[-2000:]}")
    scale = {"MB/s": 1024 / 1e6, "s": 1e-6}
    return {name: found[name] * scale[unit] for name, unit, _, _ in WORK}


def bare_guest(driver: str, data: Data, image: Path, directory: Path) -> dict[str, float]:
    """The work in QEMU as one starts it by hand, with its defaults, and the same kernel."""
    found = kernel.find()
    engine, _ = accel.choose("auto", found)
    initrd = directory / "bare-initrd.img"
    initrd.write_bytes(_initrd())
    machine = f"pc,accel={engine}" + (",memory-backend=memory" if driver == "virtiofs" else "")
    command = [
        *("qemu-system-x86_64", "-M", machine, "-cpu", "host" if engine == "kvm" else "max"),
        *("-m", f"{MEMORY_MIB}M", "-nodefaults", "-no-reboot", "-display", "none"),
        *("-serial", "stdio", "-kernel", found.kernel, "-initrd", str(initrd)),
        *("-append", f"console=ttyS0 loglevel=4 panic=-1 reboot=t share={driver}"),
        *("-drive", f"file={image},if=none,id=tools,format=raw,readonly=on"),
        *("-device", "virtio-blk-pci,drive=tools"),
    ]
    with _backend(driver, data, directory) as options:
        done = subprocess.run(
            [*command, *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=BOUND
        )
    return parse(done.stdout.decode(errors="replace"))


@contextmanager
def _backend(driver: str, data: Data, directory: Path) -> Iterator[list[str]]:
    if driver == "block":
        with data.disk() as disk:
            yield [
                *("-drive", f"file={disk},if=none,id=bench,format=raw"),
                *("-device", "virtio-blk-pci,drive=bench"),
            ]
        return
    with data.tree() as tree:
        if driver == "9p":
            local = f"local,id=bench,path={tree},security_model=passthrough"
            yield ["-fsdev", local, "-device", "virtio-9p-pci,fsdev=bench,mount_tag=bench"]
            return
        with _virtiofsd(tree, directory / "virtiofs.sock") as socket:
            yield [
                *("-chardev", f"socket,id=bench,path={socket}"),
                *("-device", "vhost-user-fs-pci,chardev=bench,tag=bench"),
                *("-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on"),
            ]


@contextmanager
def _virtiofsd(tree: Path, socket: Path) -> Iterator[Path]:
    command = [virtiofs.find(), f"--socket-path={socket}", "-o", f"source={tree}"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not socket.exists() and server.poll() is None:
            time.sleep(0.01)
        yield socket
        server.wait(30)
    finally:
        server.kill()
        server.wait(30)


def _initrd() -> bytes:
    init = _INIT.replace("@SECONDS@", str(SECONDS)).encode()
    program = stat.S_IFREG | 0o755
    entries = [Entry(name, stat.S_IFDIR | 0o755) for name in (*DIRECTORIES, "bin")]
    entries += [
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry("bin/busybox", program, Path("/bin/busybox").read_bytes()),
        Entry("filework.sh", program, SCRIPT.read_bytes()),
        Entry("init", program, init),
    ]
    return archive(entries)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=BOUND)
