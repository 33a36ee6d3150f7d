"""linux.resources (config-linux.md "Control groups") as files of the guest's cgroup v2."""

from ..errors import BadRequest
from ..quick.types import Any
from .fields import read_integer, read_object, read_objects, read_text

_WHERE = "linux.resources."
_FILE = r"(?!cgroup\.)[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)+"
_PAGE_SIZES = ("64KB", "2MB", "32MB", "512MB", "1GB", "16GB")
_MAX_VALUE = 4096


def cgroup_files(resources: dict[str, Any]) -> dict[str, str]:
    """The files of a container's cgroup and what to write to them.

    Raises BadRequest naming the key.
    """
    files: dict[str, str] = {}
    _memory(read_object(resources, "memory", _WHERE), files)
    _cpu(read_object(resources, "cpu", _WHERE), files)
    pids = read_integer(read_object(resources, "pids", _WHERE), "limit", f"{_WHERE}pids.")
    if pids:
        files["pids.max"] = _amount(pids)
    for where, limit in read_objects(resources, "hugepageLimits", _WHERE):
        size = read_text(limit, "pageSize", f"{where}.")
        if size not in _PAGE_SIZES:
            raise BadRequest(f"{where}.pageSize: {size!r} is no size of a huge page")
        files[f"hugetlb.{size}.max"] = _amount(read_integer(limit, "limit", f"{where}."))
    files.update(_unified(read_object(resources, "unified", _WHERE)))
    return files


def _amount(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(memory: dict[str, Any], files: dict[str, str]) -> None:
    where = f"{_WHERE}memory."
    limit, swap = (read_integer(memory, key, where) for key in ("limit", "swap"))
    if limit:
        files["memory.max"] = _amount(limit)
    if reservation := read_integer(memory, "reservation", where):
        files["memory.low"] = _amount(reservation)
    # The guest has no swap: a limit of it is kept as it is, if it makes sense.
    if swap > 0 and limit > swap:
        raise BadRequest(f"{where}swap: {swap} is less than the memory limit of {limit}")


def _cpu(cpu: dict[str, Any], files: dict[str, str]) -> None:
    where = f"{_WHERE}cpu."
    quota, period = (read_integer(cpu, key, where) for key in ("quota", "period"))
    if quota or period:
        files["cpu.max"] = f"{quota if quota > 0 else 'max'} {period or 100000}"
    if cpu.get("burst") is not None:
        files["cpu.max.burst"] = str(read_integer(cpu, "burst", where))
    if shares := read_integer(cpu, "shares", where):
        files["cpu.weight"] = str(cpu_weight(shares))
    if cpu.get("idle") is not None:
        files["cpu.idle"] = str(read_integer(cpu, "idle", where))


def cpu_weight(shares: int) -> int:
    """cgroup v1's cpu.shares (2 to 262144) as v2's cpu.weight (1 to 10000)."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142


def _unified(unified: dict[str, Any]) -> dict[str, str]:
    if not unified:
        return {}
    import re

    files: dict[str, str] = {}
    for name, value in unified.items():
        if not re.fullmatch(_FILE, name, re.ASCII) or len(name) > 64:
            raise BadRequest(f"{_WHERE}unified: {name!r} is no file of a cgroup that may be set")
        if not isinstance(value, str) or len(value) > _MAX_VALUE:
            raise BadRequest(f"{_WHERE}unified.{name}: a short string is expected")
        files[name] = value
    return files
