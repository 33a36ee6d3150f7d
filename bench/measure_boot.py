"""The ways to boot, each from the start of the hypervisor until the guest answers, in turns.

Each VM has one CPU, 128 MiB, and what a container's VM has but for a share. A clone's figure is to
its answer to a request; else it is to hyperstart's first words (READY). The CPU time is that of the
hypervisor, until then. HYPER_BENCH_BOOTS names those that are wanted, by parts of their names:
`default,Xen`.
"""

import os
import resource
import select
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from firmware import cbfs
from hypercontainer.errors import HyperError
from hypercontainer.guest.kernel import GuestImage, cache_directory, find
from hypercontainer.guest.platforms import NATIVE
from hypercontainer.hypervisor import driver, flash, qemu_start
from hypercontainer.hypervisor.machine import bare_machine
from hypercontainer.sandbox import VMConfig, template
from hypercontainer.system.patience import slowness
from hyperkernel import iso

from .clone import clone
from .measure_start import ROUNDS
from .results import Result

Boot = Callable[[], float]
_SOURCES = Path(__file__).parents[1] / "firmware"
_BOUND = 120.0 * slowness()
_WANTED = os.environ.get("HYPER_BENCH_BOOTS", "").split(",")
# Those whose guest's CPU time is no process's.
_NO_PROCESS = ("Xen PVH", "Xen PV")
_MEMORY_MIB = 128
_CONFIG = VMConfig(accel="tcg", memory_mib=_MEMORY_MIB)


def measure() -> Iterator[Result]:
    """One row for each way; of those that this machine lacks, why."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        ways: dict[str, Boot | str] = {}
        for name, prepare in _WAYS.items():
            if not any(part in name for part in _WANTED):
                continue
            try:
                ways[name] = prepare(Path(directory))
            except (HyperError, OSError, subprocess.SubprocessError) as error:
                ways[name] = str(error)
        for name, way in ways.items():
            if callable(way) and (trouble := _first(way)):
                ways[name] = trouble
        boots = {name: way for name, way in ways.items() if callable(way)}
        samples: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, boot in boots.items():
                before = _cpu_of_children()
                samples[name].append(1000 * boot())
                cpu[name].append(1000 * (_cpu_of_children() - before))
        first = next(iter(boots or ways))
        for name, way in ways.items():
            if isinstance(way, str):
                note = way
            else:
                time_ratio = _against(samples[name], samples[first])
                cpu_ratio = _against(cpu[name], cpu[first])
                note = f"{time_ratio:.2f} times {first}, CPU {cpu_ratio:.2f} times"
                if name in _NO_PROCESS:
                    note = f"{time_ratio:.2f} times {first}"
            yield Result(f"boot to agent: {name}", "ms", samples[name], note=note)
            if name not in _NO_PROCESS:
                yield Result(f"CPU time of it: {name}", "ms", cpu[name])


def _first(boot: Boot) -> str:
    """What keeps a way from booting, "" if it does."""
    try:
        boot()
    except (HyperError, OSError, subprocess.SubprocessError, RuntimeError) as error:
        return str(error)
    return ""


def _cpu_of_children() -> float:
    """Seconds that the processes took which we have started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _against(samples: list[float], default: list[float]) -> float:
    """How many times as long as the first, run by run: both have the machine's noise."""
    return statistics.median(own / other for own, other in zip(samples, default, strict=True))


def _default(directory: Path) -> Boot:
    image = find()
    return lambda: _boot(image)


def _clone(directory: Path) -> Boot:
    template.make(_CONFIG)
    return lambda: clone(_CONFIG)


def _flash(directory: Path) -> Boot:
    subprocess.run(
        ["make", "-s", "-C", _SOURCES, f"O={directory}/firmware"], check=True, timeout=_BOUND
    )
    bios, rom = directory / "firmware/firmware.rom", directory / "cbfs.rom"
    image = find()
    kernel = cbfs.choose_kernel(image, bios.stat().st_size)
    cbfs.make(rom, kernel, Path(image.initrd), qemu_start.flash_arguments())
    made = flash.image(str(bios), str(rom))
    return lambda: _boot(made)


def _cd(directory: Path) -> Boot:
    image = find()
    made = directory / "hyper.iso"
    iso.make(made, iso.kernel_of(image), Path(image.initrd))
    return lambda: _boot_cd(made)


def _debian(directory: Path) -> Boot:
    place = f"{cache_directory()}/distribution"
    image = find(f"{place}/vmlinuz", f"{place}/initrd.img")
    return lambda: _boot(image)


def _arm64(directory: Path) -> Boot:
    image = find(flavour="arm64")
    return lambda: _boot(image, "arm64")


def _arm64_clone(directory: Path) -> Boot:
    find(flavour="arm64")
    config = VMConfig(accel="tcg", memory_mib=_MEMORY_MIB, architecture="arm64")
    template.make(config)
    return lambda: clone(config)


def _uml(directory: Path) -> Boot:
    image = find(flavour="uml")
    if trouble := driver.load("uml").trouble("uml", image):
        raise HyperError(trouble)
    return lambda: _boot(image, engine="uml")


def _xen(directory: Path) -> Boot:
    return _on_xen("xen")


def _xen_pv(directory: Path) -> Boot:
    return _on_xen("xenpv")


def _on_xen(engine: str) -> Boot:
    image = find(flavour="xen")
    if trouble := driver.load(engine).trouble(engine, image):
        raise HyperError(trouble)
    return lambda: _boot(image, engine=engine)


_WAYS: dict[str, Callable[[Path], Boot]] = {
    "hyperkernel (the default)": _default,
    "a clone of a template": _clone,
    "flash, a CBFS": _flash,
    "a CD, by a BIOS": _cd,
    "Debian's kernel": _debian,
    "arm64": _arm64,
    "a clone of arm64": _arm64_clone,
    "User Mode Linux": _uml,
    "Xen PVH": _xen,
    "Xen PV": _xen_pv,
}


def _boot(image: GuestImage, architecture: str = NATIVE, engine: str = "tcg") -> float:
    """Seconds of a VM as the product starts it."""
    with tempfile.TemporaryDirectory() as jail:
        machine = bare_machine(
            "bench", engine, image, jail, memory_mib=_MEMORY_MIB, architecture=architecture
        )
        begin = time.perf_counter()
        vmm = driver.load(engine).start(machine)
        try:
            return _first_words(vmm.control, begin)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {_said(vmm.errors)}") from None
        finally:
            vmm.discard()


def _said(errors: int) -> str:
    """What a VMM said of itself, or its last part."""
    try:
        return os.read(errors, 1 << 16).decode(errors="replace").strip()[-500:] or "no reason"
    except OSError:
        return "no reason"


def _boot_cd(image: Path) -> float:
    """Seconds of a PC as QEMU has it by default."""
    ours, theirs = socket.socketpair()
    argv = [
        *(qemu_start.binary(), "-M", "pc,accel=tcg", "-cpu", "max", "-m", f"{_MEMORY_MIB}M"),
        *("-nodefaults", "-display", "none", "-no-reboot", "-cdrom", str(image)),
        *("-chardev", f"socket,id=control,fd={theirs.fileno()}", "-serial", "chardev:control"),
        *("-serial", "null"),
    ]
    begin = time.perf_counter()
    with subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as qemu, ours, theirs:
        try:
            return _first_words(ours, begin)
        finally:
            qemu.kill()


def _first_words(control: socket.socket, begin: float) -> float:
    if not select.select([control], [], [], _BOUND)[0] or not control.recv(1):
        raise RuntimeError("the guest did not come up")
    return time.perf_counter() - begin
