"""Making a template, in a process of its own: `python -I -m hypercontainer.sandbox.template`.

The VM to make one of comes on stdin, as VMConfig's JSON. One process at a time
makes one; a second that wants the same leaves it to the first.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from ..errors import HyperError, NotSupported, VMError
from ..hypervisor import driver, template
from ..hypervisor.machine import Machine
from ..system import cgroups
from ..system.patience import slowness
from .config import VMConfig

_MODULE = "hypercontainer.sandbox.template"
_NICE = 10
_STORE_BOUND = 120.0
# Seconds after the guest is up. A kernel that has just booted has work left, such as a second
# look at the TSC one second later, which else each clone would do in the midst of what it is for.
_SETTLING = 1.2


def make_in_background(config: VMConfig) -> None:
    """Start a process that makes a template for VMs like `config`; it outlives the caller."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(config.to_json()).encode())
    process.stdin.close()
    ended = os.pidfd_open(process.pid)
    asyncio.get_running_loop().add_reader(ended, _reap, process, ended)


def _reap(process: "subprocess.Popen[bytes]", ended: int) -> None:
    asyncio.get_running_loop().remove_reader(ended)
    os.close(ended)
    process.wait()


def make(config: VMConfig) -> str:
    """Boot a VM, save it as a template, and return its key. Raises HyperError."""
    try:
        os.makedirs(template.DIRECTORY, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(template.DIRECTORY, ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise VMError(f"template: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        work = tempfile.mkdtemp(prefix=".making-", dir=template.DIRECTORY)
        try:
            return _make(config, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise VMError(f"template: {error}") from error
    finally:
        os.close(lock)


def _make(config: VMConfig, work: str) -> str:
    from .machines import machine_of

    machine, _ = machine_of("template", work, config)
    if not template.possible(machine.accel):
        raise NotSupported(f"the engine {machine.accel} has no templates: its VMs can't be cloned")
    name = template.key(machine)
    found = template.find(machine)
    if found is not None:
        found.close()
        return found.key
    if machine.share:
        os.makedirs(machine.share)
    memory_fd = template.new_memory(machine)
    try:
        state = os.path.join(work, "state")
        booted = machine._replace(memory_fd=memory_fd, saved=True)
        guest = asyncio.run(_boot_and_save(booted, work, state))
        if template.key(machine) != name:
            raise VMError("the kernel or initrd changed while the template was made")
        template.store(name, machine, memory_fd, state, guest)
        return name
    finally:
        os.close(memory_fd)


async def _boot_and_save(machine: Machine, work: str, state: str) -> dict[str, Any]:
    from .vm import VirtualMachine

    vm = VirtualMachine(machine, driver.load(machine.accel).start(machine), lambda event: None)
    await vm.open(os.path.join(work, "console.log"))
    try:
        guest = await vm.greet(None)
        await asyncio.sleep(_SETTLING * slowness())
        fd = os.open(state, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            await vm.monitor.save_state(fd, _STORE_BOUND)
        finally:
            os.close(fd)
        return guest
    finally:
        await vm.kill()
        await vm.monitor.close()


def main() -> int:
    """Make the template that stdin asks for, quietly: a run without one is only slower."""
    config = VMConfig.from_json(json.load(sys.stdin))
    # The container's control group, in which this was started, ends before the template does.
    cgroups.enter(cgroups.directories("/"), os.getpid())
    os.nice(_NICE)
    with contextlib.suppress(HyperError):
        make(config)
    return 0


def listing() -> list[dict[str, Any]]:
    """All templates, the oldest first."""
    described = [template.describe(name) for name in template.names()]
    return [d for d in described if d is not None]


def remove(name: str) -> bool:
    """Remove a template by its key; returns whether there was one."""
    return template.remove(name)


if __name__ == "__main__":
    sys.exit(main())
