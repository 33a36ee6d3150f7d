"""More CPUs for a VM that runs, or those back that it began with."""

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import BadRequest, HyperError, NotRunning
from ..guest.protocol import Code
from ..hypervisor import cpu_counts
from ..system.patience import patience

if TYPE_CHECKING:
    from .sandbox import Sandbox


_TAKE_BOUND = 10.0
_POLL = 0.1


async def plug(sandbox: "Sandbox", count: int) -> int:
    """Let the VM have at least `count` CPUs; returns how many it has.

    It keeps them. Raises BadRequest (more than the machine has, or the VM can get), NotRunning,
    NotSupported, or VMError when the guest does not take one: it is there then, but not used.
    """
    await asyncio.shield(sandbox.ready)
    async with sandbox.growing:
        vm = sandbox.vm
        if count <= sandbox.cpus:
            return sandbox.cpus
        host, most = cpu_counts.host_cpus(), vm.machine.most_cpus
        if count > host:
            raise BadRequest(f"cpus: {count} is more than the {host} that this machine has")
        if sandbox.status != "running":
            raise NotRunning(f"the virtual machine is {sandbox.status}: it can't get more CPUs")
        if most and count > most:
            raise BadRequest(
                f"cpus: {count} is more than the {most} that this virtual machine can get while"
                " it runs: stop it, and start it with what it needs"
            )
        await vm.monitor.plug_cpus(count)
        await vm.request(Code.ONLINECPUMEM, {"cpus": count})
        sandbox.has_cpus(count)
        return count


async def set_count(sandbox: "Sandbox", count: int) -> None:
    """Let the VM have `count` of the CPUs that it began with.

    Raises BadRequest (more than those), NotRunning, NotSupported, or VMError when the guest does
    not let one go, and the guest's error when it does not take one: it has what it had then.
    """
    async with sandbox.growing:
        had = sandbox.cpus
        await sandbox.vm.monitor.set_cpus(count)
        if count > had:
            try:
                await _take(sandbox, count)
            except HyperError:
                with suppress(HyperError):
                    await sandbox.vm.monitor.set_cpus(had)
                raise
        sandbox.has_cpus(count)


async def _take(sandbox: "Sandbox", count: int) -> None:
    """Have the guest use CPUs that its kernel hears of by itself, a while after they are there."""
    deadline = time.monotonic() + _TAKE_BOUND * patience()
    while True:
        try:
            await sandbox.vm.request(Code.ONLINECPUMEM, {"cpus": count})
        except HyperError:
            if time.monotonic() > deadline or sandbox.vm.ended.done():
                raise
            await asyncio.sleep(_POLL)
        else:
            return
