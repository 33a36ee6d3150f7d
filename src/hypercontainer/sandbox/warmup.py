"""A container that a VM runs before anybody asks it for one, and forgets.

What a start takes on an emulated CPU is mostly guest code that is met for the
first time and must be translated. A VM that has started one container starts
the next in a third of the time.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

from ..guest import spec
from ..guest.protocol import Code
from ..hypervisor import template
from ..system import sparse
from .containers import INIT, Process
from .share import Share
from .vm import VirtualMachine
from .warmup_program import program

ID = "warm-up"
_DIRECTORY = ".warm-up-2"
_DISKS = ".warm-up-disks-2"
_LAYER, _UPPER = "layer.squashfs", "upper.ext4"
_UPPER_SIZE = 64 << 20
_FILES = [
    {"path": f"/etc/{name}", "content": "\n", "mode": 0o644}
    for name in ("hostname", "hosts", "resolv.conf")
]
_BOUND = 60.0
_CAPABILITIES = [f"CAP_{name}" for name in ("CHOWN", "KILL", "SETGID", "SETUID", "NET_RAW")]


def root_directory() -> str:
    """A root file system with a program, /bin/true; made once. Raises OSError."""
    return _made_once(_DIRECTORY, _fill_root)


def disks_directory() -> str:
    """Such a root file system as a layer's image, and a disk to put over it; made once.

    Raises OSError.
    """
    return _made_once(_DISKS, _fill_disks)


def _made_once(name: str, fill: Callable[[str], None]) -> str:
    path = os.path.join(template.DIRECTORY, name)
    if os.path.isdir(path):
        return path
    os.makedirs(template.DIRECTORY, mode=0o700, exist_ok=True)
    made = tempfile.mkdtemp(prefix=".making-", dir=template.DIRECTORY)
    try:
        fill(made)
        os.rename(made, path)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if not os.path.isdir(path):
            raise
    return path


def _fill_root(directory: str) -> None:
    for name in ("bin", "dev", "proc", "sys", "etc", "tmp"):
        os.mkdir(os.path.join(directory, name))
    with open(os.path.join(directory, "bin", "program"), "wb") as file:
        file.write(program())
        os.fchmod(file.fileno(), 0o755)
    os.symlink("program", os.path.join(directory, "bin", "true"))


def _fill_disks(directory: str) -> None:
    root = os.path.join(directory, "root")
    os.mkdir(root)
    _fill_root(root)
    layer, upper = (os.path.join(directory, name) for name in (_LAYER, _UPPER))
    with open(upper, "xb") as file:
        file.truncate(_UPPER_SIZE)
    for command in (
        ["mksquashfs", root, layer, "-comp", "lz4", "-no-progress", "-quiet", "-all-root"],
        ["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-J", "size=4", upper],
    ):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_BOUND, check=False
        )
        if done.returncode != 0:
            raise OSError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")


def _private_copy(path: str) -> int:
    """A memfd with the content of a sparse file. Raises OSError."""
    copy = os.memfd_create("hyper-warm-up", os.MFD_CLOEXEC)
    try:
        with open(path, "rb") as file:
            sparse.copy(file.fileno(), copy)
    except BaseException:
        os.close(copy)
        raise
    return copy


def _config() -> dict[str, Any]:
    """About what engines ask for."""
    strict = ["nosuid", "noexec", "nodev"]
    mounts: tuple[tuple[str, str, list[str]], ...] = (
        ("/proc", "proc", []),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", [*strict[:2], "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", [*strict, "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", strict),
        ("/sys", "sysfs", [*strict, "ro"]),
        ("/sys/fs/cgroup", "cgroup", [*strict, "relatime", "ro"]),
    )
    return {
        "hostname": ID,
        "root": {"readonly": False},
        "process": {
            "args": ["true"],
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": d, "type": t, "source": t, "options": list(o)} for d, t, o in mounts
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    }


class WarmUp:
    """Runs the container; `on_event` must get the guest's events meanwhile."""

    def __init__(self) -> None:
        self._ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def on_event(self, payload: dict[str, Any]) -> None:
        """An event of the guest."""
        if not self._ended.done():
            self._ended.set_result(payload)

    async def run(self, vm: VirtualMachine, share: Share | None) -> None:
        """On a directory of the share, or on disks where there is none.

        Raises HyperError, OSError or TimeoutError; then the VM is not to be trusted.
        """
        if share is None:
            await self._on_disks(vm)
            return
        path = share.bind(ID, root_directory(), read_only=False)
        await self._run(vm, {"kind": "share", "path": path})
        share.release(ID)

    async def _on_disks(self, vm: VirtualMachine) -> None:
        directory = disks_directory()
        upper = _private_copy(os.path.join(directory, _UPPER))
        try:
            writable = f"/proc/self/fd/{upper}"
            numbers = [
                await vm.monitor.plug_disk(os.path.join(directory, _LAYER), read_only=True),
                await vm.monitor.plug_disk(writable, read_only=False),
            ]
        finally:
            os.close(upper)
        layer, disk = (f"0:{number}" for number in numbers)
        rootfs = {
            "kind": "overlay",
            "lower": [{"disk": layer, "fstype": "squashfs"}],
            "upper": {"disk": disk, "fstype": "ext4"},
        }
        await self._run(vm, rootfs)
        for number in numbers:
            await vm.monitor.unplug_disk(number)

    async def _run(self, vm: VirtualMachine, rootfs: dict[str, Any]) -> None:
        config = _config()
        process = Process(vm.streams, INIT, terminal=False, stdin=True, hold=False)
        message = spec.container_message(
            ID,
            config,
            rootfs,
            lambda source, read_only: "",
            spec.process_message(
                INIT, config["process"], stdio=process.stdio, stderr=process.stderr, stdin=True
            ),
        )
        await vm.request(Code.NEWCONTAINER, {**message, "files": _FILES, "join": {}})
        await vm.request(Code.STARTCONTAINER, {"container": ID})
        event = await asyncio.wait_for(self._ended, _BOUND)
        await process.finish(dict(event))
        await vm.request(Code.REMOVECONTAINER, {"container": ID})
        process.release()
        if event.get("code") != 0:
            raise TimeoutError(f"the warm-up ended with {event.get('code')!r}")
