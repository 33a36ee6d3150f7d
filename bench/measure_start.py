"""The start of a container: `hyper run`, against a bare boot of the same kernel.

The bare boot is QEMU as one starts it for a kernel (`-M pc -kernel K -initrd I -append
console=ttyS0`), with no devices but a serial port and an initrd with a program that prints one
line: from the start of QEMU to that line. Our kernel arguments, machine options and firmware are
worth half of such a boot, so it is measured with them too ("tuned as ours"); the bound is on the
first. All are measured in turns, so that a noisy machine is noisy for all.
"""

import compileall
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypercontainer
from hypercontainer.guest import kernel
from hypercontainer.hypervisor import accel, qemu_start
from hypercontainer.hypervisor.machine import Machine
from hypercontainer.sandbox import VMConfig, template
from hyperkernel.initrd import initrd

from . import bundles, peers
from .clone import clone
from .daemon import BIN, hyperd
from .ready import wait_for_ready
from .results import Result

ROUNDS = int(os.environ.get("HYPER_BENCH_ROUNDS", "20"))
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
_KEPT = ("-M", "-accel", "-cpu", "-smp", "-m", "-kernel", "-append", "-bios")


def measure() -> Iterator[Result]:
    """Cold starts against a bare boot, and clones against other runtimes and a bare clone."""
    compileall.compile_dir(Path(hypercontainer.__file__).parent, quiet=1)
    yield from _cold()
    yield from _cloned()
    size = Path(kernel.find().initrd).stat().st_size / 1e6
    yield Result("initrd", "MB", [size], at_most=1.0)


def _cold() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as directory, hyperd("off") as hyper:
        tuned_command = bare_command(Path(directory))
        command = plain_command(tuned_command)
        hyper("run", "--rm", "busybox", "true")
        boot(command)
        bare, tuned, run = [], [], []
        for _ in range(ROUNDS):
            bare.append(1000 * boot(command))
            run.append(1000 * hyper.timed("run", "--rm", "busybox", "true"))
            tuned.append(1000 * boot(tuned_command))
        yield Result("bare QEMU boot to a one-line init", "ms", bare, key="bare_cold_ms")
        yield Result("the same, tuned as ours", "ms", tuned)
        yield Result("hyper run --rm busybox true, cold", "ms", run, key="cold_ms")
        for name, others, bound in (("bare", bare, 1.15), ("tuned bare", tuned, None)):
            ratios = [one / other for one, other in zip(run, others, strict=True)]
            yield Result(f"hyper run against the {name} boot", "times", ratios, at_most=bound)
        versions = [1000 * hyper.timed("version") for _ in range(ROUNDS)]
        yield Result("hyper version", "ms", versions)


def _cloned() -> Iterator[Result]:
    """All in turns; before each of ours a VM is ready, as it is for whoever runs one now and then.

    Without the wait a run is a clone that a fork server starts.
    """
    share = VMConfig(share=True)
    template.make(VMConfig())
    template.make(share)
    with tempfile.TemporaryDirectory() as name, hyperd("use") as hyper:
        directory = Path(name)
        bundle = bundles.bundle(directory / "bundle", "true")
        runv = [BIN / "runv", "--root", directory / "runv", "--template", "use"]
        command = [str(word) for word in (*runv, "run", "--bundle", bundle)]
        runc, runsc = (peers.runtime(name, bundle, directory) for name in ("runc", "runsc"))
        with peers.docker(bundle / "rootfs") as docker:

            def ready() -> float:
                wait_for_ready()
                return bundles.timed([*command, "ready"], BOOT_BOUND)

            def forked() -> float:
                return bundles.timed([*command, "forked"], BOOT_BOUND)

            def hyper_run() -> float:
                wait_for_ready(hyper.pid)
                return hyper.timed("run", "--rm", "busybox", "true")

            measured: dict[str, tuple[str, Callable[[], float] | None]] = {
                "bare_clone_ms": ("a clone by a script, to its first answer", lambda: clone(share)),
                "runv_clone_ms": ("runv run of true, on a ready clone", ready),
                "runv_forked_ms": ("runv run of true right after, cloned", forked),
                "runsc_ms": ("runsc run of true", runsc),
                "runc_ms": ("runc run of true", runc),
                "hyper_warm_ms": ("hyper run --rm of true, warm", hyper_run),
                "docker_runc_ms": ("docker run --rm of true, with runc", docker),
            }
            found: dict[str, list[float]] = {key: [] for key in measured}
            for once in (forked, forked, lambda: hyper.timed("run", "--rm", "busybox", "true")):
                once()
            for _ in range(ROUNDS):
                for key, (_, timed) in measured.items():
                    if timed is not None:
                        found[key].append(1000 * timed())
    medians = {key: statistics.median(samples) for key, samples in found.items() if samples}
    bounds = {
        "runv_clone_ms": min(130.0, medians.get("runsc_ms", 130.0)),
        "hyper_warm_ms": medians.get("docker_runc_ms"),
    }
    for key, samples in found.items():
        if samples:
            yield Result(measured[key][0], "ms", samples, at_most=bounds.get(key), key=key)


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


def plain_command(tuned: list[str]) -> list[str]:
    """QEMU's command for the same kernel and initrd, without what we tuned."""
    engine = _option(tuned, "-accel")[1].partition(",")[0]
    cpu = "host" if engine == "kvm" else "max"
    return [
        *(tuned[0], "-M", f"pc,accel={engine}", "-cpu", cpu, "-m", "128M"),
        *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *(*_option(tuned, "-kernel"), *_option(tuned, "-initrd"), "-append", "console=ttyS0"),
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
