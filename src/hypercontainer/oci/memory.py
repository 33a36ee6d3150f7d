"""The memory of a VM for the limits of all its containers."""

from typing import Any

from ..guest.fields import read_integer, read_object
from ..sandbox import read_state, vm_memory
from ..sandbox.calls import call
from . import records


def limit_of(resources: dict[str, Any]) -> int:
    """The limit of memory in linux.resources, in bytes, 0 or less for none. Raises BadRequest."""
    memory = read_object(resources, "memory", "linux.resources.")
    return read_integer(memory, "limit", "linux.resources.memory.")


def provide(root: str, owner: str, cid: str, limit: int) -> None:
    """Let the VM of `owner` have what its containers may take, when `cid` may take `limit` bytes.

    A limit that is more than the VM has would be a promise not kept. Raises HyperError.
    """
    if limit <= 0:
        return
    sandbox = records.sandbox_directory(root, owner)
    state = read_state(sandbox) or {}
    others = (record for record in records.members(root, owner) if record["id"] != cid)
    wanted = limit + sum(max(limit_of(record.get("resources") or {}), 0) for record in others)
    if wanted > int(state.get("memory_mib") or 0) << 20:
        call(sandbox, "grow", {"memory_mib": vm_memory(wanted)})
