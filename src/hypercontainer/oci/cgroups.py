"""The control group of a container on the host.

It holds the container's proxies, and of the first container in a VM also the
sandbox and QEMU, so that an engine's statistics and the host's accounting are
those of the VM. The container's limits are applied in the guest; the host's
group gets what only the host can apply: the share of the CPUs and which.
"""

import os

from ..errors import BadRequest
from ..guest.fields import read_integer, read_object, read_text
from ..guest.resources import cpu_weight
from ..quick import json
from ..quick.types import Any
from ..system import cgroups
from ..system.files import write_atomic
from . import records

_FILE = "cgroup.json"
_REMOVE_BOUND = 10.0


def prepare(root: str, cid: str, config: dict[str, Any], *, systemd: bool) -> list[str]:
    """Make the group of a container; returns its directories, none where that is not allowed.

    Raises BadRequest for a malformed `linux.cgroupsPath`.
    """
    linux = read_object(config, "linux")
    path = group_path(read_text(linux, "cgroupsPath", "linux."), cid, systemd=systemd)
    wanted = cgroups.directories(path)
    made = [directory for directory in wanted if not os.path.isdir(directory)]
    # Written before they are made, so that they are removed whatever ends us.
    group = {"group": wanted, "made": made}
    write_atomic(os.path.join(records.directory(root, cid), _FILE), json.dumps(group).encode())
    usable = cgroups.create(wanted)
    _apply(
        usable, read_object(read_object(linux, "resources", "linux."), "cpu", "linux.resources.")
    )
    return usable


def group_path(path: str, cid: str, *, systemd: bool) -> str:
    """The group's path; systemd's form is SLICE:PREFIX:NAME, and its names imply the tree.

    Raises BadRequest.
    """
    if ".." in path.split("/"):
        raise BadRequest(f"linux.cgroupsPath: {path!r} has a part '..'")
    if not path:
        return cid
    if not systemd:
        return path
    parts = path.split(":")
    if len(parts) != 3:
        raise BadRequest(f"linux.cgroupsPath: {path!r} is not SLICE:PREFIX:NAME, as systemd wants")
    slices = (parts[0] or "system.slice").removesuffix(".slice").split("-")
    tree = ["-".join(slices[: i + 1]) + ".slice" for i in range(len(slices)) if slices[0]]
    scope = "-".join(part for part in parts[1:] if part)
    return "/" + "/".join([*tree, scope if scope.endswith(".slice") else f"{scope}.scope"])


def _apply(group: list[str], cpu: dict[str, Any]) -> None:
    where = "linux.resources.cpu."
    shares = read_integer(cpu, "shares", where)
    values = {
        "cpu.shares": str(shares) if shares else "",
        "cpu.weight": str(cpu_weight(shares)) if shares else "",
        "cpuset.cpus": read_text(cpu, "cpus", where),
        "cpuset.mems": read_text(cpu, "mems", where),
    }
    for directory in group:
        for name, value in values.items():
            if value and os.path.exists(f"{directory}/{name}"):
                cgroups.write(directory, name, value)


def update(root: str, cid: str, resources: dict[str, Any]) -> None:
    """Other limits (linux.resources) for a container that exists."""
    _apply(group_of(root, cid), read_object(resources, "cpu", "linux.resources."))


def group_of(root: str, cid: str) -> list[str]:
    """The directories of a container's group that exist."""
    return [d for d in _read(root, cid).get("group", []) if os.path.isdir(d)]


def remove(root: str, cid: str, *, wait: bool = True) -> None:
    """Remove what `prepare` made, once nobody is left in it, and what it found and is unused."""
    group = _read(root, cid)
    made = group.get("made", [])
    cgroups.remove(made, _REMOVE_BOUND if wait else 0.0)
    for directory in group.get("group", []):
        if directory not in made:
            cgroups.remove_unused(directory)


def _read(root: str, cid: str) -> dict[str, list[str]]:
    try:
        with open(os.path.join(records.directory(root, cid), _FILE), "rb") as file:
            found: dict[str, list[str]] = json.load(file)
            return found
    except FileNotFoundError:
        return {}
