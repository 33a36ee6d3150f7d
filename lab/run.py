"""Building a lab's machine, starting it, and running tests in it."""

import os
import shlex
import sys
import tempfile
import time
from base64 import b64decode
from pathlib import Path

from hypercontainer.guest.kernel import cache_directory

from . import project
from .cache import Cache
from .errors import LabError
from .image import REPOSITORY, Image, build
from .labs import Lab
from .machine import Boot, Machine

# Where the serial port's log, the tests' output and their results (JUnit's XML) are left.
OUT = REPOSITORY / "build" / "lab"
# Seconds for the set-up, and for all tests together: what `make lab` may take on an idle machine.
_SET_UP_BOUND = 300.0
_TESTS_BOUND = 3600.0
_ARGUMENTS = (
    "loglevel=5 panic=-1 no_timer_check tsc=reliable random.trust_cpu=on"
    " mitigations=off net.ifnames=0"
)


def run(lab: Lab, arguments: list[str], *, shell: bool) -> int:
    """Run the lab's tests, or those that `arguments` for pytest name, and return its exit code.

    With `shell` the lines of stdin are run instead. Raises LabError.
    """
    if os.geteuid() != 0:
        raise LabError("mmdebstrap and the guest's files need root: run make lab as root")
    cache = Cache(Path(cache_directory()) / "lab")
    image = build(cache, lab.wanted())
    python = project.python(cache)
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hyper-lab-", dir="/var/tmp") as name:
        work = Path(name)
        checkout = work / "checkout.squashfs"
        project.checkout(checkout, lab.kernels)
        initramfs = work / "initramfs"
        initramfs.write_bytes(image.initramfs())
        boot = _boot(lab, image, initramfs, [image.root, python, checkout])
        with (OUT / f"{lab.name}.log").open("wb") as log:

            def show(said: bytes) -> None:
                log.write(said)
                sys.stdout.buffer.write(said)
                sys.stdout.buffer.flush()

            begin = time.monotonic()
            with Machine(boot, OUT / f"{lab.name}-serial.log", show) as machine:
                machine.wait_ready()
                machine.output_of(lab.set_up, _SET_UP_BOUND)
                print(f"lab: the machine is up after {time.monotonic() - begin:.0f} s", flush=True)
                return _lines(machine) if shell else _tests(lab, machine, arguments)


def _boot(lab: Lab, image: Image, initramfs: Path, layers: list[Path]) -> Boot:
    hypervisor = lab.hypervisor
    return Boot(
        kernel=image.kernel,
        initramfs=initramfs,
        arguments=_ARGUMENTS,
        layers=layers,
        cpu=lab.cpu,
        memory_mib=lab.memory_mib,
        threads=lab.threads,
        hypervisor=image.directory / hypervisor.file if hypervisor else None,
        hypervisor_arguments=hypervisor.arguments if hypervisor else "",
    )


def _lines(machine: Machine) -> int:
    code = 0
    for line in sys.stdin:
        begin = time.monotonic()
        code = machine.run(f"cd {shlex.quote(str(REPOSITORY))}; {line}", _TESTS_BOUND)
        print(f"lab: exit code {code} after {time.monotonic() - begin:.1f} s", flush=True)
    return code


def _tests(lab: Lab, machine: Machine, arguments: list[str]) -> int:
    results = "/scratch/results.xml"
    command = [
        *("env", f"HYPER_LAB={lab.name}", *(f"{k}={v}" for k, v in lab.environment.items())),
        *(".venv/bin/python", "-u", "-m", "pytest"),
        *(f"--junitxml={results}", "-p", "no:cacheprovider"),
        *(arguments or lab.tests),
    ]
    script = f"cd {shlex.quote(str(REPOSITORY))} && exec {shlex.join(command)}"
    code = machine.run(script, _TESTS_BOUND)
    if machine.run(f"test -e {results}", 60) == 0:
        data = machine.output_of(f"base64 {results}", 60)
        (OUT / f"{lab.name}.xml").write_bytes(b64decode(data))
    return code
