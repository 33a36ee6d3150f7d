"""Control groups of the host: those of version 2, or the controllers of version 1 (cgroups(7)).

Nothing here needs a controller to exist: what can't be made or written is left out.
"""

import os
import time

_MOUNTS = "/proc/self/mountinfo"
_OWN = "/proc/self/cgroup"
_POLL = 0.02


def directories(path: str) -> list[str]:
    """The directories of the control group `path` on this host, in each hierarchy.

    A relative `path` is one below this process's own groups.
    """
    if os.path.isabs(path):
        return [root + os.path.normpath(path) for root in _roots().values()]
    own = _own()
    return [
        os.path.join(root, own.get(key, "/").strip("/"), os.path.normpath(path))
        for key, root in _roots().items()
    ]


def _roots() -> dict[str, str]:
    """The mount points of the hierarchies, by the key that /proc/self/cgroup has for each.

    Version 2 counts only where it stands alone.
    """
    legacy: dict[str, str] = {}
    unified: dict[str, str] = {}
    with open(_MOUNTS) as mounts:
        for line in mounts:
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.strip().split(" ", 2)
            root, target = fields.split()[3:5]
            if kind == "cgroup" and root == "/":
                legacy.setdefault(_key(options), target)
            elif kind == "cgroup2" and root == "/":
                unified.setdefault("", target)
    return legacy or unified


def _key(options: str) -> str:
    """The controllers of a version 1 mount, in the order that its options have."""
    flags = ("rw", "ro", "xattr", "clone_children", "noprefix")
    return ",".join(o for o in options.split(",") if o not in flags and "agent" not in o)


def _own() -> dict[str, str]:
    with open(_OWN) as own:
        lines = [line.rstrip("\n").split(":", 2) for line in own]
    return {key: path for _, key, path in lines}


def own_directories() -> list[str]:
    """The directories of this process's own groups, but for the roots of hierarchies."""
    own = _own()
    return [root + own[key] for key, root in _roots().items() if own.get(key, "/") != "/"]


def create(group: list[str]) -> list[str]:
    """Make the directories of a group; returns those that can be used."""
    return [directory for directory in group if _make(directory)]


def _make(directory: str) -> bool:
    try:
        if not os.path.isdir(directory):
            parent = os.path.dirname(directory)
            if not os.path.isdir(parent) and not _make(parent):
                return False
            _delegate(parent)
            os.mkdir(directory, 0o755)
        _inherit_cpuset(directory)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def _delegate(parent: str) -> None:
    """Version 2: let the groups below `parent` have its controllers."""
    for controller in _read(f"{parent}/cgroup.controllers").split():
        write(parent, "cgroup.subtree_control", f"+{controller}")


def _inherit_cpuset(directory: str) -> None:
    """Version 1: a group takes no process before it has CPUs and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        inherited = _read(f"{os.path.dirname(directory)}/{name}")
        if inherited and os.path.exists(f"{directory}/tasks") and not _read(f"{directory}/{name}"):
            write(directory, name, inherited)


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def write(directory: str, name: str, value: str) -> bool:
    """Write a file of a group; returns whether that worked."""
    try:
        with open(f"{directory}/{name}", "w") as file:
            file.write(value)
    except OSError:
        return False
    return True


def enter(group: list[str], pid: int) -> None:
    """Put a process into a group, as far as that is allowed."""
    for directory in group:
        write(directory, "cgroup.procs", str(pid))


def remove(group: list[str], timeout: float) -> list[str]:
    """Remove a group once its processes have ended; returns the directories that are left.

    Waits at most `timeout` seconds. Groups that somebody made below it go too.
    """
    deadline = time.monotonic() + timeout
    while left := [directory for directory in group if not _removed(directory)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    return left


def remove_unused(directory: str) -> None:
    """Remove a group without processes and groups in it; any other stays."""
    try:
        os.rmdir(directory)
    except OSError:
        pass


def _removed(directory: str) -> bool:
    try:
        for entry in os.scandir(directory):
            if entry.is_dir():
                _removed(entry.path)
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
