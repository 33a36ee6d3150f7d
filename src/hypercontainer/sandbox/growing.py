"""More memory for a VM that runs."""

import asyncio
import time
from typing import TYPE_CHECKING

from ..errors import BadRequest, HyperError, NotRunning, VMError
from ..guest.protocol import Code
from ..hypervisor import memory_sizes

if TYPE_CHECKING:
    from .sandbox import Sandbox

_POLL = 0.01
_TAKE_BACK_BOUND = 5.0


async def grow(sandbox: "Sandbox", total_mib: int) -> int:
    """Let the VM have at least `total_mib` MiB; returns how much it has.

    It never shrinks. Raises BadRequest (more than the machine has), NotRunning, NotSupported, or
    VMError when the guest does not take it, which has what it had before then.
    """
    await asyncio.shield(sandbox.ready)
    async with sandbox.growing:
        vm, have = sandbox.vm, sandbox.memory_mib
        if total_mib <= have:
            return have
        host = await vm.monitor.host_memory()
        if total_mib > host:
            raise BadRequest(
                f"memory: {total_mib} MiB is more than the {host} MiB that this machine has"
            )
        if sandbox.status != "running":
            raise NotRunning(f"the virtual machine is {sandbox.status}: it can't get more memory")
        began_with = vm.machine.memory_mib
        if total_mib <= began_with:
            # Some was taken away, which nothing is to be plugged for.
            await sandbox.set_vm_size(None, total_mib)
            return sandbox.memory_mib
        wanted = memory_sizes.plugged_for(total_mib, began_with)
        if wanted > memory_sizes.most_plugged(host):
            most = began_with + memory_sizes.most_plugged(host)
            raise BadRequest(
                f"memory: {total_mib} MiB is more than the {most} MiB that this virtual machine can"
                " get while it runs: stop it, and start it with what it needs"
            )
        await vm.monitor.offer_memory(wanted)
        try:
            await vm.request(Code.ONLINECPUMEM)
            await _until_taken(sandbox, wanted)
            # It counts only now for what containers may take.
            await vm.request(Code.ONLINECPUMEM)
        except HyperError:
            await _take_back(sandbox, have - began_with)
            raise
        sandbox.has_memory(began_with + wanted)
        return sandbox.memory_mib


async def _until_taken(sandbox: "Sandbox", wanted: int) -> None:
    bound = sandbox.vm.request_bound
    deadline = time.monotonic() + bound
    while (taken := await sandbox.vm.monitor.plugged_memory()) < wanted:
        if time.monotonic() > deadline:
            raise VMError(
                f"the guest took {taken} of {wanted} MiB of memory in {bound:.0f} s:"
                " what manages it takes 2 MiB for each 128, which it may not have free"
            )
        await asyncio.sleep(_POLL)


async def _take_back(sandbox: "Sandbox", before: int) -> None:
    """Offer what the guest had before; whatever else it took meanwhile, it gives back or keeps."""
    monitor = sandbox.vm.monitor
    deadline = time.monotonic() + _TAKE_BACK_BOUND
    try:
        await monitor.offer_memory(before)
        while (has := await monitor.plugged_memory()) > before:
            if time.monotonic() > deadline:
                sandbox.has_memory(sandbox.vm.machine.memory_mib + has)
                return
            await asyncio.sleep(_POLL)
    except HyperError:
        return
