"""The start of a container: `hyper run`, against a bare boot of the same kernel.

The bare boot is QEMU with the same machine, CPU, firmware and kernel arguments, no devices but a
serial port, and an initrd with a program that prints one line: from the start of QEMU to that line.
Both are measured in turns, so that a noisy machine is noisy for both.
"""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hypercontainer.guest import kernel
from hypercontainer.hypervisor import accel, qemu_start
from hypercontainer.hypervisor.machine import Machine
from hypercontainer.sandbox import VMConfig, template
from hyperkernel.initrd import initrd

from .daemon import hyperd
from .results import Result

ROUNDS = 15
BOOT_BOUND = 60.0
LINE = b"bare init"
_INIT = r"""
#include <unistd.h>
#include <sys/reboot.h>
int main(void)
{
    write(1, "bare init\n", 10);
    reboot(RB_AUTOBOOT);
    return 0;
}
"""
_KEPT = ("-M", "-cpu", "-smp", "-m", "-kernel", "-append", "-bios")


def measure() -> Iterator[Result]:
    """Cold `hyper run --rm busybox true`, a bare boot, and their ratio (bound: 1.3)."""
    with tempfile.TemporaryDirectory() as directory, hyperd("off") as hyper:
        command = bare_command(Path(directory))
        hyper("run", "--rm", "busybox", "true")
        boot(command)
        bare, run = [], []
        for _ in range(ROUNDS):
            bare.append(boot(command))
            run.append(hyper.timed("run", "--rm", "busybox", "true"))
        yield Result("bare QEMU boot to a one-line init", "s", bare)
        yield Result("hyper run --rm busybox true, cold", "s", run)
        ratios = [one / other for one, other in zip(run, bare, strict=True)]
        yield Result("hyper run against the bare boot", "times", ratios, at_most=1.3)
        yield Result("hyper version", "s", [hyper.timed("version") for _ in range(ROUNDS)])
    template.make(VMConfig())
    with hyperd("use") as hyper:
        run = [hyper.timed("run", "--rm", "busybox", "true") for _ in range(ROUNDS + 1)]
        yield Result("hyper run --rm busybox true, cloned", "s", run[1:])
    size = Path(kernel.find().initrd).stat().st_size / 1e6
    yield Result("initrd", "MB", [size], at_most=1.0)


def bare_command(directory: Path) -> list[str]:
    """QEMU's command for the bare boot; its initrd is made in `directory`."""
    image = kernel.find()
    engine, _ = accel.choose("auto", image)
    source = directory / "init.c"
    source.write_text(_INIT)
    init = directory / "init"
    subprocess.run(
        ["musl-gcc", "-static", "-Os", "-s", "-o", str(init), str(source)], check=True, timeout=60
    )
    archive = directory / "initrd.img"
    archive.write_bytes(initrd(init, []))
    machine = Machine(
        name="bare",
        accel=engine,
        cpus=1,
        memory_mib=128,
        kernel=image.kernel,
        initrd=str(archive),
        append="",
        share="",
        network="none",
        user_id=0,
        jail="",
    )
    channels = dict.fromkeys(("monitor", "console", "control", "streams"), 0)
    ours = qemu_start.command(machine, channels)
    kept = [word for option in _KEPT for word in _option(ours, option)]
    return [
        *(ours[0], *kept, "-initrd", str(archive), "-nodefaults", "-no-user-config"),
        *("-no-reboot", "-display", "none", "-serial", "stdio"),
    ]


def _option(command: list[str], option: str) -> list[str]:
    if option not in command:
        return []
    place = command.index(option)
    return command[place : place + 2]


def boot(command: list[str]) -> float:
    """Seconds from the start of QEMU to the guest's line."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if LINE in line:
                return time.perf_counter() - begin
        raise RuntimeError("the bare guest ended without its line")
    finally:
        process.kill()
        process.wait(BOOT_BOUND)
        process.stdout.close()
