"""What the namespaces of a configuration mean for a container in a VM.

The VM is the container's network namespace. On the host another one, new or
given by path, is where the engine puts interfaces, and the VM follows it. A
path that leads to another container of ours means: in that container's VM.
"""

import os

from ..errors import BadRequest, NotSupported
from ..quick.types import Any, Callable, NamedTuple
from ..system import syscalls
from . import pods, records
from .records import Record

_PROC_PATH = r"/proc/(\d+)/(?:task/\d+/)?ns/\w+"


class Placement(NamedTuple):
    """Where a container goes.

    `host_network`: it asked for the host's own; `network_path`: the namespace
    to follow, "" for a new one; `peer`: the container whose VM it joins;
    `shared`: the kinds of namespace that it shares, each with a container.
    """

    host_network: bool
    network_path: str
    peer: Record | None
    shared: dict[str, Record]


def place(root: str, config: dict[str, Any]) -> Placement:
    """Raises BadRequest or NotSupported naming the key."""
    namespaces = (config.get("linux") or {}).get("namespaces") or []
    shared: dict[str, Record] = {}
    network_path, has_network, host = "", False, False
    for index, namespace in enumerate(namespaces):
        kind, path = str(namespace.get("type")), namespace.get("path") or ""
        if kind == "network":
            has_network, host = True, bool(path) and _is_own(path, "net")
            network_path = path
        if not path or (host and kind == "network"):
            continue
        owner = _owner(root, path)
        if owner is not None:
            shared[kind] = owner
        elif kind != "network":
            raise NotSupported(
                f"linux.namespaces[{index}].path: {path} belongs to no container of runv, and a"
                f" VM can't share the host's {kind} namespace"
            )
        elif not os.path.exists(path):
            raise BadRequest(f"linux.namespaces[{index}].path: {path} does not exist")
    peer = _pod(root, config) or next(iter(shared.values()), None)
    return Placement(host or not has_network, network_path, peer, shared)


def _is_own(path: str, kind: str) -> bool:
    """Whether a namespace file is the namespace of this process."""
    try:
        return os.path.samefile(path, f"/proc/self/ns/{kind}")
    except OSError:
        return False


def _owner(root: str, path: str) -> Record | None:
    """The container whose proxy or network namespace `path` is."""
    if not path.startswith("/proc/"):
        return None
    import re

    match = re.fullmatch(_PROC_PATH, path)
    if match is None:
        return None
    pid = int(match.group(1))
    return next((r for r in records.all_records(root) if r["pid"] == pid), None)


def _pod(root: str, config: dict[str, Any]) -> Record | None:
    """The container that stands for the pod which the annotations name."""
    pod = pods.pod_of(config)
    if not pod:
        return None
    # Podman marks every member of a pod so, also where the pod has no infra container.
    return next((r for r in records.all_records(root) if r["id"] == pod), None)


def entering(placement: Placement) -> Callable[[], None]:
    """What a container's proxy does first: enter the network namespace, or make one."""

    def enter() -> None:
        if placement.host_network:
            return
        if not placement.network_path:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            return
        fd = os.open(placement.network_path, os.O_RDONLY | os.O_CLOEXEC)
        syscalls.setns(fd, syscalls.CLONE_NEWNET)
        os.close(fd)

    return enter
