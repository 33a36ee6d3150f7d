"""The sandbox process: `python -I -m hypercontainer.sandbox.process STATE_DIR`.

The VM's configuration comes on stdin as JSON. On stdout go two lines of JSON:
`{"event": "listening"}`, and `{"event": "ready"}` or `{"error": …}`.

QEMU is started before asyncio and the rest are imported, so that both load at
the same time.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import HyperError, VMError, to_wire
from ..hypervisor import driver, template
from ..hypervisor.machine import Machine, Vmm
from ..system import merging, processes
from .config import VMConfig
from .machines import machine_of
from .share import Share
from .state import CONSOLE_LOG, PROTOCOL, SOCKET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .resume import Resumption
    from .sandbox import Sandbox
    from .vm import VirtualMachine

_EMPTY_BOUND = 10.0
_UNUSED_BOUND = 120.0
_DRAIN_BOUND = 5.0


def main() -> int:
    """Read the request from stdin and run the sandbox until its VM is gone."""
    request = json.load(sys.stdin)
    os.close(0)
    os.open("/dev/null", os.O_RDONLY)
    return run(os.path.abspath(sys.argv[1]), request)


def run(state_dir: str, request: dict[str, Any]) -> int:
    """Run the sandbox of a request (`id`, `vm`, and whether to `resume`) until its VM is gone."""
    try:
        config = VMConfig.from_json(request["vm"])
        machine, why = machine_of(request["id"], state_dir, config)
        if request.get("resume"):
            return _resume(request["id"], state_dir, config, machine, why)
        share = Share(machine.share) if machine.share else None
        found = template.find(machine) if config.template != "off" else None
        vmm = template.start_vm(machine, found)
    except (HyperError, OSError) as error:
        report({"error": to_wire(error if isinstance(error, HyperError) else VMError(str(error)))})
        return 1
    import asyncio

    run_it = _run(request["id"], state_dir, config, machine, why, vmm, share, found)
    return asyncio.run(run_it)


def _resume(sandbox_id: str, state_dir: str, config: VMConfig, machine: Machine, why: str) -> int:
    """Run a sandbox whose VM goes on from a snapshot. Raises HyperError, OSError."""
    from .resume import Resumption

    resumption = Resumption(state_dir)
    machine = resumption.machine(machine)
    vmm = driver.load(machine.accel).start(machine)
    import asyncio

    return asyncio.run(_go_on(sandbox_id, state_dir, config, machine, why, vmm, resumption))


async def _go_on(
    sandbox_id: str,
    state_dir: str,
    config: VMConfig,
    machine: Machine,
    why: str,
    vmm: Vmm,
    resumption: "Resumption",
) -> int:
    from .sandbox import Sandbox

    sandbox = Sandbox(sandbox_id, state_dir, config, None)
    vm = await _opened(sandbox, state_dir, machine, vmm)
    own = about(machine, why, vmm, "")
    return await serve(sandbox, vm, state_dir, own, lambda: resumption.run(sandbox))


async def _opened(
    sandbox: "Sandbox", state_dir: str, machine: Machine, vmm: Vmm
) -> "VirtualMachine":
    """The VM of a VMM, whose console is written to the state directory."""
    from .vm import VirtualMachine

    vm = VirtualMachine(machine, vmm, sandbox.on_event)
    await vm.open(os.path.join(state_dir, CONSOLE_LOG))
    return vm


def report(line: dict[str, Any]) -> bool:
    """Tell the launcher; returns whether it is still there."""
    try:
        os.write(1, json.dumps(line).encode() + b"\n")
    except OSError:
        return False
    return True


async def _run(
    sandbox_id: str,
    state_dir: str,
    config: VMConfig,
    machine: Machine,
    why: str,
    vmm: Vmm,
    share: Share | None,
    found: template.Template | None,
) -> int:
    from .sandbox import Sandbox

    sandbox = Sandbox(sandbox_id, state_dir, config, share)
    vm = await _opened(sandbox, state_dir, machine, vmm)
    if found is not None and not await _cloned(vm, found, sandbox_id):
        found, vmm = None, template.start_vm(machine, None)
        vm = await _opened(sandbox, state_dir, machine, vmm)
    own = about(machine, why, vmm, found.key if found else "")
    return await serve(sandbox, vm, state_dir, own)


async def serve(
    sandbox: "Sandbox",
    vm: "VirtualMachine",
    state_dir: str,
    own: dict[str, Any],
    go_on: "Callable[[], Awaitable[None]] | None" = None,
) -> int:
    """Serve requests until the VM is gone; one that is no clone boots meanwhile, or does `go_on`,
    which may give the sandbox another.

    `own` is what `about` says. Returns the exit status.
    """
    from .server import Server

    config, cloned = sandbox.config, bool(own["template"])
    merging.allow(config.memory_merge != merging.OFF)
    boots = not cloned and go_on is None

    async def boot() -> None:
        if boots:
            await vm.boot(config.boot_timeout, {"hostname": sandbox.sandbox_id})

    sandbox.own(vm, own)
    server = Server(sandbox, lambda timeout: _stop(sandbox, timeout))
    await server.serve(os.path.join(state_dir, SOCKET))
    begin = go_on or boot
    if not report({"event": "listening"}):
        vm.kill_for("nobody waits for it: its starter is gone")
        sandbox.has_its_vm.set()
        begin = boot
    failed = await _come_up(sandbox, begin)
    if not failed and boots and config.template == "auto" and template.possible(vm.machine.accel):
        from .template import make_in_background

        make_in_background(config)
    if not failed and not config.linger:
        sandbox.spawn(_end_when_empty(sandbox))
    vm = sandbox.vm
    reason = failed or await vm.ended
    await vm.monitor.close()
    await sandbox.leave_network()
    await sandbox.lost(reason)
    await sandbox.settle(_DRAIN_BOUND)
    await server.drain(_DRAIN_BOUND)
    await sandbox.flush_logs()
    os.unlink(os.path.join(state_dir, SOCKET))
    return 1 if failed else 0


def about(machine: Machine, why: str, vmm: Vmm, key: str) -> dict[str, Any]:
    """What the state file says of this process and its VM, cloned from the template `key`."""
    pid = os.getpid()
    return {
        "pid": pid,
        "started": processes.start_time(pid),
        "boot": processes.boot_id(),
        "protocol": PROTOCOL,
        "version": __version__,
        "vmm_pid": vmm.pid,
        "vmm_started": vmm.started,
        "vmm_end_signal": vmm.end_signal,
        "accel": machine.accel,
        "accel_reason": why,
        "kernel": machine.kernel,
        "initrd": machine.initrd,
        "cpus": machine.cpus,
        "memory_mib": machine.memory_mib,
        "network": machine.network,
        "architecture": machine.architecture,
        "share": bool(machine.share),
        "template": key,
    }


async def _cloned(vm: "VirtualMachine", found: template.Template, hostname: str) -> bool:
    """Clone the template; one that does not work is removed, and its VM ended."""
    try:
        await vm.clone(found, {"hostname": hostname})
    except HyperError as error:
        sys.stderr.write(f"template {found.key}: {error.message}; booting instead\n")
        template.remove(found.key)
        await vm.kill()
        await vm.monitor.close()
        return False
    finally:
        found.close()
    return True


async def _come_up(sandbox: "Sandbox", begin: "Callable[[], Awaitable[None]]") -> str:
    """Returns why the VM did not come up, "" when it did."""
    try:
        await begin()
    except (HyperError, OSError) as raised:
        error = raised if isinstance(raised, HyperError) else VMError(str(raised))
        sandbox.ready.set_exception(error)
        sandbox.ready.exception()
        await sandbox.vm.kill()
        report({"error": to_wire(error)})
        return error.message
    else:
        sandbox.status = "running"
        sandbox.save()
        sandbox.ready.set_result(None)
        report({"event": "ready"})
        return ""
    finally:
        os.dup2(0, 1)


async def _end_when_empty(sandbox: "Sandbox") -> None:
    """End the VM with its last container, or when its starter never made one."""
    import asyncio

    try:
        await asyncio.wait_for(sandbox.used.wait(), _UNUSED_BOUND)
    except TimeoutError:
        sandbox.vm.kill_for("nobody made a container in it")
        return
    await sandbox.empty.wait()
    if sandbox.config.ephemeral:
        sandbox.vm.kill_for("its last container has ended")
    else:
        await sandbox.vm.shutdown(_EMPTY_BOUND)


async def _stop(sandbox: "Sandbox", timeout: float) -> None:
    if timeout > 0 and sandbox.ready.done() and not sandbox.ready.exception():
        if sandbox.status == "paused":
            await sandbox.pause(False)
        await sandbox.vm.shutdown(timeout)
    else:
        sandbox.abandoned.set()
        await sandbox.vm.kill()


if __name__ == "__main__":
    sys.exit(main())
