"""What a container may take of its VM: the key `resources`, and changes of it while it runs."""

from dataclasses import dataclass, replace
from typing import Any

from ..errors import BadRequest, NotSupported
from .reading import Node
from .values import parse_size

MIN_MEMORY = 4 << 20
_PERIOD = 100_000
NANO = 10**9
_MOST = 1 << 62
_REFUSED = {
    "cpusetcpus": "a container may use all processors of its VM",
    "cpusetmems": "a VM has one node of memory",
    "memoryswap": "a guest has no swap",
    "kernelmemory": "cgroup v2 has no such limit",
    "blkioweight": "the disks of a VM are not shared out by weight",
    "cpurealtimeperiod": "cgroup v2 has no real-time limit",
    "cpurealtimeruntime": "cgroup v2 has no real-time limit",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a container, 0 for none. `memory` and `reservation` are in bytes, `nano_cpus` in
    billionths of a processor."""

    memory: int = 0
    reservation: int = 0
    nano_cpus: int = 0
    shares: int = 0
    pids: int = 0

    def to_oci(self) -> dict[str, Any]:
        """As linux.resources; what has no limit is unlimited, not left as it was."""
        quota = self.nano_cpus * _PERIOD // NANO or -1
        return {
            "memory": {"limit": self.memory or -1, "reservation": self.reservation},
            "cpu": {"quota": quota, "period": _PERIOD, "shares": self.shares or 1024},
            "pids": {"limit": self.pids or -1},
        }

    def to_json(self) -> dict[str, Any]:
        """As in a specification."""
        values = {
            "memory": self.memory,
            "memoryReservation": self.reservation,
            "nanoCpus": self.nano_cpus,
            "cpuShares": self.shares,
            "pids": self.pids,
        }
        return {key: value for key, value in values.items() if value}


def read_limits(node: Node) -> Limits:
    """The key `resources` of a container. Raises BadRequest."""
    child = node.child("resources")
    if child is None:
        return Limits()
    limits = Limits(
        memory=_size(child, "memory"),
        reservation=_size(child, "memoryReservation"),
        nano_cpus=child.integer("nanoCpus", 0, 0, 1 << 50) or _cpus(child),
        shares=child.integer("cpuShares", 0, 0, 262144),
        pids=child.integer("pids", 0, 0, 1 << 22),
    )
    child.done()
    return _checked(limits, child.where)


def _size(node: Node, key: str) -> int:
    """Bytes, as a number or a text such as `64m`."""
    value = node.take(key)
    if value is None:
        return 0
    if isinstance(value, str):
        return parse_size(value, node.where(key))
    return node.integer(key, 0, 0, _MOST)


def _cpus(node: Node) -> int:
    """Billionths of the processors in `cpus`, such as 0.5."""
    value = node.take("cpus")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1024:
        raise node.bad("cpus", "a number of processors above 0 is expected, such as 0.5")
    return round(value * NANO)


def _checked(limits: Limits, where: Any) -> Limits:
    if 0 < limits.memory < MIN_MEMORY:
        raise BadRequest(f"{where('memory')}: a container needs {MIN_MEMORY >> 20} MiB at least")
    if limits.memory and limits.reservation > limits.memory:
        raise BadRequest(f"{where('memoryReservation')}: it is more than the limit of memory")
    if 0 < limits.nano_cpus < NANO // 100:
        raise BadRequest(f"{where('cpus')}: 0.01 is the least")
    return limits


def changed(limits: Limits, body: Node, memory_mib: int, vcpu: int, *, grows: bool) -> Limits:
    """With the changes in Docker's UpdateConfig; `memory_mib` and `vcpu` are what the VM has.

    With `grows` the VM will get the memory and processors that are missing. Raises BadRequest,
    NotSupported.
    """
    for key, why in _REFUSED.items():
        if body.take(key) not in (None, 0, "", -1):
            raise NotSupported(f"{body.where(key)}: {why}")
    memory = body.integer("Memory", 0, -1, _MOST)
    reservation = body.integer("MemoryReservation", 0, -1, _MOST)
    nano = body.integer("NanoCpus", 0, -1, 1 << 50)
    quota = body.integer("CpuQuota", 0, -1, 1 << 40)
    period = body.integer("CpuPeriod", 0, 0, 1_000_000) or _PERIOD
    if quota and nano:
        raise body.bad("NanoCpus", "it and CpuQuota exclude each other")
    if quota:
        nano = quota * NANO // period if quota > 0 else -1
    shares = body.integer("CpuShares", 0, 0, 262144)
    pids = body.integer("PidsLimit", 0, -1, 1 << 22)
    if memory > memory_mib << 20 and not grows:
        raise body.bad("Memory", f"it is more than the {memory_mib} MiB that the VM has")
    if nano > vcpu * NANO and not grows:
        raise body.bad("NanoCpus", f"it is more than the {vcpu} processors that the VM has")
    new = replace(
        limits,
        memory=_new(memory, limits.memory),
        reservation=_new(reservation, limits.reservation),
        nano_cpus=_new(nano, limits.nano_cpus),
        shares=_new(shares, limits.shares),
        pids=_new(pids, limits.pids),
    )
    return _checked(new, body.where)


def _new(value: int, before: int) -> int:
    """0 changes nothing, -1 takes the limit away."""
    return before if not value else max(value, 0)
