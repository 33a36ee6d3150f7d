"""QEMU's device by which a VM gets more memory while it runs (virtio-mem)."""

from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import VMError
from . import memory_sizes
from .machine import Machine

Execute = Callable[..., Awaitable[Any]]

_BACKEND, _DEVICE = "plugged", "dev-memory"


async def offer(execute: Execute, machine: Machine, mib: int) -> None:
    """Offer the guest `mib` MiB besides those that it started with. Raises VMError."""
    if await _device(execute) is not None:
        size = {"property": "requested-size", "value": mib << 20}
        await execute("qom-set", path=f"/machine/peripheral/{_DEVICE}", **size)
        return
    size_of_all = memory_sizes.most_plugged(memory_sizes.host_mib()) << 20
    # It takes nothing before the guest uses it. The server of a share must see it.
    kind = {"qom-type": "memory-backend-ram"}
    if machine.has_virtiofs:
        kind = {"qom-type": "memory-backend-memfd"}
    shared = machine.has_virtiofs
    await execute("object-add", **kind, id=_BACKEND, size=size_of_all, share=shared)
    try:
        await execute(
            "device_add",
            driver="virtio-mem-pci",
            id=_DEVICE,
            memdev=_BACKEND,
            memaddr=memory_sizes.address(machine.memory_mib),
            **{"requested-size": mib << 20},
        )
    except VMError:
        await execute("object-del", id=_BACKEND)
        raise


async def plugged(execute: Execute) -> int:
    """The MiB that the guest has taken. Raises VMError."""
    device = await _device(execute)
    return int(device["size"]) >> 20 if device is not None else 0


async def _device(execute: Execute) -> dict[str, Any] | None:
    devices = [item["data"] for item in await execute("query-memory-devices")]
    return next((data for data in devices if data.get("id") == _DEVICE), None)
