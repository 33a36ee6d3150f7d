"""`runv update`: other limits for a container that exists."""

import json
import sys
from typing import Any

from ..errors import BadRequest, NotRunning, NotSupported
from ..guest.resources import cgroup_files
from ..sandbox.calls import call
from . import bundle, cgroups, fields, records
from .arguments import Arguments
from .providing import provide

_MAX_INPUT = 1 << 20
# runc's flags for what a VM or cgroup v2 lacks.
_REFUSED = {
    "cpu_rt_period": "cgroup v2 has no real-time limit",
    "cpu_rt_runtime": "cgroup v2 has no real-time limit",
    "l3_cache_schema": "a VM's caches are not divided",
    "mem_bw_schema": "a VM's memory bandwidth is not divided",
}
_FLAGS = {
    "memory": ("memory", "limit"),
    "memory_reservation": ("memory", "reservation"),
    "memory_swap": ("memory", "swap"),
    "cpu_period": ("cpu", "period"),
    "cpu_quota": ("cpu", "quota"),
    "cpu_share": ("cpu", "shares"),
    "cpuset_cpus": ("cpu", "cpus"),
    "cpuset_mems": ("cpu", "mems"),
    "pids_limit": ("pids", "limit"),
}


def update(args: Arguments) -> int:
    """Change the limits in the guest, and on the host those that are the host's."""
    change(args.root, args.id, _from_file(args.resources) if args.resources else _from_flags(args))
    return 0


def change(root: str, cid: str, changes: dict[str, Any]) -> None:
    """Put `changes` (of linux.resources) into force. Raises HyperError naming the key."""
    with records.locked(root, cid):
        record = records.load(root, cid)
        current, _ = records.status(root, record)
        if current == "stopped":
            raise NotRunning("container not running")
        resources = merge(record.get("resources") or {}, changes)
        # All that is set, so that a quota keeps its period; the devices only when they change.
        wanted = {k: v for k, v in resources.items() if k != "devices" or k in changes}
        cgroup_files(wanted)
        sandbox = records.sandbox_of(root, record)
        provide(root, record["owner"], cid, changes, resources)
        cgroups.update(root, cid, resources)
        call(sandbox, "update", {"container": record["guest_id"], "resources": wanted})
        record["resources"] = resources
        records.save(root, record)


def merge(resources: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` put over `resources`, section by section; null and 0 change nothing."""
    merged = dict(resources)
    for section, values in changes.items():
        if isinstance(values, dict):
            kept = {k: v for k, v in values.items() if v not in (None, 0, "")}
            merged[section] = {**(merged.get(section) or {}), **kept}
        elif values:
            merged[section] = values
    return merged


def _from_file(path: str) -> dict[str, Any]:
    if path != "-":
        changes = bundle.read_json(path, "resources file")
    else:
        try:
            changes = json.loads(sys.stdin.read(_MAX_INPUT))
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"resources on stdin are not JSON: {error}") from None
        if not isinstance(changes, dict):
            raise BadRequest("resources on stdin: an object is expected")
    fields.check({"linux": {"resources": changes}})
    return changes


def _from_flags(args: Arguments) -> dict[str, Any]:
    for flag, why in _REFUSED.items():
        if getattr(args, flag):
            raise NotSupported(f"update --{flag.replace('_', '-')} is not supported: {why}")
    changes: dict[str, Any] = {}
    for flag, (section, key) in _FLAGS.items():
        value = getattr(args, flag)
        if value is not None:
            changes.setdefault(section, {})[key] = value
    return changes
