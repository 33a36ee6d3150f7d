"""How long each initcall of a kernel takes in a boot, and which object file it is of."""

import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from hypercontainer.hypervisor import qemu_start

from .build import run
from .initrd import initrd
from .kbuild import symbols

_BOUND = 300.0
_END = b"the whole log was written"
# Prints the kernel's log, which was kept off the serial port while the calls were timed. 3 is
# SYSLOG_ACTION_READ_ALL.
_INIT = r"""
#include <stdio.h>
#include <sys/klog.h>
#include <sys/reboot.h>
static char log[1 << 20];
int main(void)
{
    int length = klogctl(3, log, sizeof log);
    fwrite(log, 1, length > 0 ? length : 0, stdout);
    puts("the whole log was written");
    fflush(stdout);
    reboot(RB_AUTOBOOT);
    return 0;
}
"""
_TIMED = re.compile(r"initcall 0x([0-9a-f]+) returned \S+ after (\d+) usecs")


def times(tree: Path, vmlinux: Path, objects: list[str], boots: int) -> dict[str, float]:
    """Milliseconds of the initcalls of each object: medians of so many boots.

    `vmlinux` was built in `tree` of `objects`. Raises RuntimeError when a boot fails.
    """
    owners = _owners(tree, objects)
    with tempfile.TemporaryDirectory() as name:
        command = _command(Path(name), vmlinux)
        seen = [_boot(command) for _ in range(boots)]
    calls = _calls(tree)
    found: dict[str, float] = {}
    for number, samples in enumerate(zip(*seen, strict=True)):
        if len({address for address, _ in samples}) != 1 or number >= len(calls):
            raise RuntimeError("the boots had different initcalls")
        took = statistics.median(microseconds for _, microseconds in samples) / 1000
        path = owners.get(calls[number], "")
        found[path] = found.get(path, 0.0) + took
    return found


def _calls(tree: Path) -> list[str]:
    """The symbols of the initcalls, in the order in which they are called.

    Those of the console come last in memory, are called earlier, and are not timed.
    """
    lines = [line.split() for line in (tree / "System.map").read_text().splitlines()]
    end = next(int(address, 16) for address, _, name in lines if name == "__con_initcall_start")
    found = [
        (int(address, 16), name)
        for address, _, name in lines
        if name.startswith("__initcall__") and int(address, 16) < end
    ]
    return [name for _, name in sorted(found)]


def _owners(tree: Path, objects: list[str]) -> dict[str, str]:
    """The object that defines each initcall's symbol, whose name has a number of its own."""
    return {
        name: path
        for path, names in symbols(tree, objects).items()
        for name in names
        if name.startswith("__initcall__")
    }


def _command(directory: Path, vmlinux: Path) -> list[str]:
    source, init, archive = (directory / name for name in ("init.c", "init", "initrd.img"))
    source.write_text(_INIT)
    run("musl-gcc", "-static", "-Os", "-s", "-o", str(init), str(source))
    archive.write_bytes(initrd(init, []))
    arguments = (
        "console=ttyS0 loglevel=4 panic=-1 reboot=t no_timer_check tsc=reliable noreplace-smp"
        " nolapic_timer random.trust_cpu=on percpu_alloc=page scsi_mod.scan=manual"
        " initcall_debug log_buf_len=1M"
    )
    return [
        *(qemu_start.binary(), "-M", "pc,accel=tcg", "-cpu", "max", "-m", "192M", "-nodefaults"),
        *("-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-kernel", str(vmlinux), "-initrd", str(archive)),
        *("-append", arguments + qemu_start.tsc_argument()),
        *("-device", "virtio-serial-pci", "-device", "virtio-scsi-pci"),
        *("-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="),
        *("-device", "virtio-balloon-pci", "-device", "virtio-rng-pci"),
    ]


def _boot(command: list[str]) -> list[tuple[str, int]]:
    """The address and microseconds of each initcall of one boot, in their order."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_BOUND, check=False
    )
    if _END not in done.stdout:
        raise RuntimeError(f"the kernel did not boot: {done.stdout[-2000:]!r} {done.stderr!r}")
    log = done.stdout.decode(errors="replace")
    return [(address, int(took)) for address, took in _TIMED.findall(log)]
