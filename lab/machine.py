"""A lab machine: a QEMU that emulates a whole computer, and the commands that are run in it."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hypercontainer.hypervisor.qemu_start import tsc_argument
from hypercontainer.system import syscalls
from hypercontainer.system.patience import patience

from .commands import Commands
from .errors import LabError

_QEMU = "qemu-system-x86_64"
_NICE = 10
_SCRATCH = 16 << 30
_BOOT_BOUND = 200.0
_END_BOUND = 10.0
_LAST_LINES = 15


class Boot(NamedTuple):
    """What a machine starts from, and the layers of its root, the lowest first.

    `cpu` is QEMU's -cpu, `memory_mib` in MiB, `threads` as of TCG's `thread`. A `hypervisor`, if
    there is one, starts the kernel.
    """

    kernel: Path
    initramfs: Path
    arguments: str
    layers: list[Path]
    cpu: str
    memory_mib: int
    threads: str
    hypervisor: Path | None = None
    hypervisor_arguments: str = ""
    cpus: int = 2


class Machine:
    """A running machine. As a context manager it ends with the body; QEMU ends with this process
    whatever happens, and no file of it stays but the log of its serial port."""

    def __init__(self, boot: Boot, serial_log: Path, on_output: Callable[[bytes], None]) -> None:
        """Start it. `on_output` gets what commands say. Raises LabError."""
        self.serial_log = serial_log
        serial_log.write_bytes(b"")
        self._port, theirs = socket.socketpair()
        self._commands = Commands(self._port, on_output)
        scratch = _scratch_disk()
        kept = (theirs.fileno(), scratch)
        try:
            self._qemu = subprocess.Popen(
                _command(boot, serial_log, *kept),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=kept,
                preexec_fn=_in_child,
            )
        except FileNotFoundError:
            raise LabError(f"{_QEMU} not found: run tools/setup run") from None
        finally:
            theirs.close()
            os.close(scratch)

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Wait until it takes commands. Raises LabError."""
        with self._explained():
            self._commands.wait_ready(_BOOT_BOUND * patience())

    def run(self, script: str, bound: float) -> int:
        """Run a shell script in it; its exit code. Raises LabError after `bound` seconds."""
        with self._explained():
            return self._commands.run(script, bound)

    def output_of(self, script: str, bound: float) -> str:
        """What a script says that must succeed. Raises LabError."""
        with self._explained():
            return self._commands.output_of(script, bound)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except LabError as error:
            raise LabError(f"{error}\n{self._last_words()}") from error

    def _last_words(self) -> str:
        """What QEMU and the serial port said last."""
        lines = self.serial_log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        if self._qemu.poll() is not None and self._qemu.stderr is not None:
            lines.append(self._qemu.stderr.read().decode(errors="replace"))
        return "\n  ".join([f"its serial port ({self.serial_log}) said last:", *lines])

    def close(self) -> None:
        """End it at once: nothing of it is worth keeping."""
        self._qemu.kill()
        self._qemu.wait(_END_BOUND)
        self._port.close()
        if self._qemu.stderr is not None:
            self._qemu.stderr.close()


def _in_child() -> None:
    os.setsid()
    os.nice(_NICE)
    syscalls.die_with_parent(signal.SIGKILL)


def _scratch_disk() -> int:
    """A descriptor of an empty ext4 disk, whose file has no name any more. Raises LabError."""
    with tempfile.NamedTemporaryFile(prefix="hyper-lab-", dir="/var/tmp") as file:
        file.truncate(_SCRATCH)
        done = subprocess.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", file.name],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise LabError(f"the scratch disk can't be made: {done.stderr.strip()}")
        return os.open(file.name, os.O_RDWR)


def _command(boot: Boot, serial_log: Path, port: int, scratch: int) -> list[str]:
    argv = [
        _QEMU,
        *("-name", "hyper-lab", "-M", "q35,usb=off,vmport=off"),
        *("-accel", f"tcg,thread={boot.threads}"),
        *("-cpu", boot.cpu, "-smp", str(boot.cpus), "-m", f"{boot.memory_mib}M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *_kernel(boot),
        *("-serial", f"file:{serial_log}"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=commands,fd={port}"),
        *("-device", "virtserialport,chardev=commands,name=lab.commands"),
    ]
    disks = [(str(layer), "on") for layer in boot.layers]
    disks.append((f"/proc/self/fd/{scratch}", "off"))
    for number, (path, read_only) in enumerate(disks):
        drive = f"if=none,id=disk{number},format=raw,file={path},read-only={read_only}"
        argv += ["-drive", f"{drive},cache=unsafe"]
        argv += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    return argv


def _kernel(boot: Boot) -> list[str]:
    """Started directly; or by the hypervisor, which gets kernel and initramfs as modules."""
    # Xen has the serial port to itself, and shows there what its console gets.
    console = "ttyS0" if boot.hypervisor is None else "hvc0"
    layers = len(boot.layers)
    arguments = f"console={console} {boot.arguments} lab.layers={layers}{tsc_argument()}"
    if boot.hypervisor is None:
        started, initrd, own = boot.kernel, str(boot.initramfs), arguments
    else:
        started, own = boot.hypervisor, boot.hypervisor_arguments
        # A kernel below Xen looks for pages that can be written and executed, for a minute.
        initrd = f"{boot.kernel} {arguments} rodata=off,{boot.initramfs}"
    return ["-kernel", str(started), "-append", own, "-initrd", initrd]
