"""process.scheduler, process.ioPriority and linux.personality (runtime-spec 1.1) for the guest."""

from ..errors import BadRequest
from ..quick.types import Any
from .fields import read_integer, read_object, read_text, read_texts

# linux/sched.h and linux/sched/types.h
_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
# linux/ioprio.h
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_IO_CLASS_SHIFT = 13
# linux/personality.h
_PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}


def scheduling_keys(process: dict[str, Any]) -> dict[str, Any]:
    """The keys of a process for the guest. Raises BadRequest naming the key."""
    keys: dict[str, Any] = {}
    if scheduler := read_object(process, "scheduler", "process."):
        keys["scheduler"] = _scheduler(scheduler)
    if priority := read_object(process, "ioPriority", "process."):
        keys["io_priority"] = _io_priority(priority)
    return keys


def _scheduler(scheduler: dict[str, Any]) -> list[int]:
    """policy, nice, priority, flags, runtime, deadline, period: as in struct sched_attr."""
    where = "process.scheduler."
    policy = read_text(scheduler, "policy", where)
    if policy not in _POLICIES:
        raise BadRequest(f"{where}policy: unknown policy {policy!r}")
    flags = 0
    for name in read_texts(scheduler, "flags", where):
        if name not in _FLAGS:
            raise BadRequest(f"{where}flags: unknown flag {name!r}")
        flags |= _FLAGS[name]
    nice, priority = (read_integer(scheduler, key, where) for key in ("nice", "priority"))
    if not -20 <= nice <= 19:
        raise BadRequest(f"{where}nice: {nice} is not between -20 and 19")
    if not 0 <= priority <= 99:
        raise BadRequest(f"{where}priority: {priority} is not between 0 and 99")
    times = [read_integer(scheduler, key, where) for key in ("runtime", "deadline", "period")]
    if any(not 0 <= time < 1 << 63 for time in times):
        raise BadRequest(f"{where}runtime, deadline, period: a time is out of range")
    return [_POLICIES[policy], nice, priority, flags, *times]


def _io_priority(priority: dict[str, Any]) -> int:
    where = "process.ioPriority."
    name, level = read_text(priority, "class", where), read_integer(priority, "priority", where)
    if name not in _IO_CLASSES:
        raise BadRequest(f"{where}class: unknown class {name!r}")
    if not 0 <= level <= 7:
        raise BadRequest(f"{where}priority: {level} is not between 0 and 7")
    return _IO_CLASSES[name] << _IO_CLASS_SHIFT | level


def personality(linux: dict[str, Any]) -> int | None:
    """linux.personality as personality(2) takes it. Raises BadRequest naming the key."""
    value = read_object(linux, "personality", "linux.")
    if not value:
        return None
    domain = read_text(value, "domain", "linux.personality.")
    if domain not in _PERSONALITIES:
        raise BadRequest(f"linux.personality.domain: unknown domain {domain!r}")
    if read_texts(value, "flags", "linux.personality."):
        raise BadRequest("linux.personality.flags: none is defined")
    return _PERSONALITIES[domain]
