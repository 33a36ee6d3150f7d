"""Statistics of a container, from the files of its control group in the guest."""

from typing import Any

from ...oci.events import devices, is_count, table
from ..api import cgroup_metrics_pb2 as pb

_UNLIMITED = (1 << 64) - 1
_CPU = (
    *("usage_usec", "user_usec", "system_usec"),
    *("nr_periods", "nr_throttled", "throttled_usec"),
)
_EVENTS = ("low", "high", "max", "oom", "oom_kill")
_OWN = ("usage", "usage_limit", "swap_usage", "swap_limit")
_MEMORY = tuple(f.name for f in pb.MemoryStat.DESCRIPTOR.fields if f.name not in _OWN)


def metrics(files: dict[str, str]) -> pb.Metrics:
    """The metrics of a group of version 2, from its files by name (Linux, cgroup-v2.rst)."""
    memory = _numbers(files, "memory.stat", _MEMORY)
    memory["usage"] = _number(files, "memory.current")
    memory["usage_limit"] = _number(files, "memory.max")
    memory["swap_usage"] = _number(files, "memory.swap.current")
    memory["swap_limit"] = _number(files, "memory.swap.max")
    return pb.Metrics(
        pids=pb.PidsStat(current=_number(files, "pids.current"), limit=_limit(files, "pids.max")),
        cpu=pb.CPUStat(**_numbers(files, "cpu.stat", _CPU)),
        memory=pb.MemoryStat(**memory),
        memory_events=pb.MemoryEvents(**_numbers(files, "memory.events", _EVENTS)),
        io=pb.IOStat(usage=_block_io(files.get("io.stat", ""))),
    )


def _numbers(files: dict[str, str], name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    found = table(files.get(name, ""))
    return {key: found[key] for key in keys if key in found}


def _number(files: dict[str, str], name: str) -> int:
    """A number; `max` is the largest there is."""
    text = files.get(name, "").strip()
    return _UNLIMITED if text == "max" else int(text) if is_count(text) else 0


def _limit(files: dict[str, str], name: str) -> int:
    """A number of processes; none is 0."""
    number = _number(files, name)
    return 0 if number == _UNLIMITED else number


def _block_io(text: str) -> list[pb.IOEntry]:
    return [
        pb.IOEntry(
            major=major,
            minor=minor,
            **{key: values[key] for key in ("rbytes", "wbytes", "rios", "wios") if key in values},
        )
        for major, minor, values in devices(text)
    ]
