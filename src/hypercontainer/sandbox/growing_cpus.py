"""More CPUs for a VM that runs."""

import asyncio
from typing import TYPE_CHECKING

from ..errors import BadRequest, NotRunning
from ..guest.protocol import Code
from ..hypervisor import cpu_counts

if TYPE_CHECKING:
    from .sandbox import Sandbox


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
