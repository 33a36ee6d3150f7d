"""The memory and CPUs of a VM for the limits of all its containers."""

import os

from ..guest.fields import read_integer, read_object
from ..quick.types import Any, Iterable
from ..sandbox import read_state, vm_memory
from ..sandbox.calls import call
from . import records

_PERIOD = 100000


def provide(
    root: str, owner: str, cid: str, changes: dict[str, Any], resources: dict[str, Any]
) -> None:
    """Let the VM of `owner` have what its containers may take, when `cid` may take `resources`
    (of linux.resources), which are `changes` over what it might take before.

    A limit that is more than the VM has would be a promise not kept. Raises HyperError.
    """
    grows, plugs = _memory(changes) > 0, _cpus(changes) > 0
    if not grows and not plugs:
        return
    sandbox = records.sandbox_directory(root, owner)
    state = read_state(sandbox) or {}
    others = [record for record in records.members(root, owner) if record["id"] != cid]
    everyone = [resources, *(record.get("resources") or {} for record in others)]
    if grows and (memory := sum(map(_memory, everyone))) > int(state.get("memory_mib") or 0) << 20:
        call(sandbox, "grow", {"memory_mib": vm_memory(memory)})
    if plugs and (cpus := _whole(map(_cpus, everyone))) > int(state.get("cpus") or 0):
        call(sandbox, "plug_cpus", {"cpus": cpus})


def _memory(resources: dict[str, Any]) -> int:
    """The limit in bytes, 0 for none. Raises BadRequest."""
    memory = read_object(resources, "memory", "linux.resources.")
    return max(read_integer(memory, "limit", "linux.resources.memory."), 0)


def _cpus(resources: dict[str, Any]) -> int:
    """The quota in thousandths of a CPU, 0 for none. Raises BadRequest."""
    where = "linux.resources.cpu."
    cpu = read_object(resources, "cpu", "linux.resources.")
    quota, period = (read_integer(cpu, key, where) for key in ("quota", "period"))
    return max(quota, 0) * 1000 // (period if period > 0 else _PERIOD)


def _whole(quotas: Iterable[int]) -> int:
    """CPUs for quotas; a container may have one of more than there are, and has them all."""
    return min(-(-sum(quotas) // 1000), os.cpu_count() or 1)
