"""CPUs that QEMU plugs into a VM that runs.

Without ACPI nobody tells the guest: hyperstart does, once they are there.
"""

from typing import Any

from ..errors import VMError
from .qemu_memory import Execute


async def plug(execute: Execute, count: int) -> None:
    """Plug what is missing of `count` CPUs, in the order in which the guest knows them.

    Raises VMError.
    """
    slots = sorted(await execute("query-hotpluggable-cpus"), key=_place)
    for number, slot in enumerate(slots[:count]):
        if "qom-path" not in slot:
            await execute("device_add", driver=slot["type"], id=f"cpu{number}", **slot["props"])
    if len(slots) < count:
        raise VMError(f"QEMU has room for {len(slots)} CPUs, not for {count}")


async def plugged(execute: Execute) -> int:
    """How many CPUs there are. Raises VMError."""
    return sum("qom-path" in slot for slot in await execute("query-hotpluggable-cpus"))


def _place(slot: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(slot["props"].get(f"{kind}-id", 0)) for kind in ("socket", "core", "thread"))
