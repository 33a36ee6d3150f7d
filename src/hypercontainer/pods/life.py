"""What happens to containers besides starting and ending: new names, restarts, pruning."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, Conflict, HyperError, NotFound, NotRunning, NotSupported
from ..sandbox import SandboxClient, vm_memory
from .creation import whole
from .depends import left_needing, rename_dependency, with_dependencies
from .limits import NANO, Limits, changed, read_limits
from .model import Container, Pod, Status
from .names import check_name
from .reading import Node
from .spec import MAX_MEMORY_MIB, MAX_VCPU, PodSpec, parse_pod
from .views import labels, unix_time

if TYPE_CHECKING:
    from .service import PodService

_ENDED = (Status.CREATED, Status.EXITED)
_FILTERS = ("label", "label!", "until")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


async def rename(service: "PodService", container: Container, name: str) -> None:
    """Give a container another name; its pod and its host name keep theirs.

    Raises BadRequest, Conflict.
    """
    name = name.removeprefix("/")
    check_name(name, "newName")
    old = container.name
    pod = service.pod_of(container)
    async with pod.lock:
        if name == old:
            raise Conflict(f"container {old} has that name already")
        if service.taken(name) and name != pod.id:
            raise Conflict(f"the name {name} is in use: choose another, or remove that one first")
        needing = left_needing(pod, [container])
        service.rename(container, name)
        rename_dependency(needing, old, name)
        try:
            service.store.save_specs(container, *needing)
        except HyperError:
            service.rename(container, old)
            rename_dependency(needing, name, old)
            raise
    service.networking.networks.renamed(pod.id)
    service.events.container("rename", pod, container, oldName=f"/{old}")


async def label(service: "PodService", pod: Pod, new: Mapping[str, str], *, override: bool) -> None:
    """Give a pod more labels. Raises Conflict for one that it has already, unless `override`."""
    async with pod.lock:
        if service.pods.get(pod.id) is not pod:
            raise NotFound(f"no such pod: {pod.id}")
        for name, value in new.items():
            if not override and pod.spec.labels.get(name, value) != value:
                raise Conflict(f"pod {pod.id} has the label {name} already: override it, or not")
        labelled = {**pod.spec.labels, **new}
        before = pod.raw
        pod.raw = {**_without(pod.raw, "labels"), "labels": labelled}
        try:
            service.store.save_pod(pod)
        except HyperError:
            pod.raw = before
            raise
        pod.spec = replace(pod.spec, labels=labelled)
    service.events.pod("update", pod)


async def update(service: "PodService", container: Container, body: dict[str, Any]) -> None:
    """Change limits and restart policy of a container, running or not, as Docker's UpdateConfig
    says; and `Vm` (`memory` in MiB, `vcpu`), the size of the VM, of which one that runs can only
    get more, unless it is Xen's. It gets what a container's limit is above it.

    Raises BadRequest, NotSupported, NotRunning (the VM runs), VMError.
    """
    pod = service.pod_of(container)
    async with pod.lock:
        if not service.knows(container) or container.state.status == Status.REMOVING:
            raise Conflict(f"container {container.name} is being removed")
        node = Node(body, "update")
        size = _vm_size(pod, node)
        grows = pod.client is not None
        limits = changed(container.spec.limits, node, size["memory"], size["vcpu"], grows=grows)
        policy = _policy(node)
        node.done()
        if limits.memory > size["memory"] << 20:
            size["memory"] = vm_memory(limits.memory)
        if pod.client is not None:
            await _resize(pod, pod.client, size, limits)
        raw_pod = {**_without(pod.raw, "resource"), "resource": size}
        raw = {**_without(container.raw, "resources"), "resources": limits.to_json()}
        if policy:
            raw = {**_without(raw, "restartPolicy"), "restartPolicy": policy}
        before = (pod.raw, container.raw)
        pod.raw, container.raw = raw_pod, raw
        try:
            spec = parse_pod(whole(pod))
            if container.live and pod.client is not None and limits != container.spec.limits:
                await service.client_of(container).update(container.id, limits.to_oci())
            service.store.save_spec(pod, container)
        except BaseException:
            pod.raw, container.raw = before
            raise
        _take(pod, spec)
    service.events.container("update", pod, container)


def _take(pod: Pod, spec: PodSpec) -> None:
    """Let a pod and its containers be as specified from now on."""
    pod.spec = spec
    for container, own in zip(pod.containers, spec.containers, strict=True):
        container.spec = own


def _vm_size(pod: Pod, node: Node) -> dict[str, int]:
    size = {"vcpu": pod.spec.vcpu, "memory": pod.spec.memory}
    wanted = node.child("Vm")
    if wanted is None:
        return size
    changes = {
        "vcpu": wanted.integer("vcpu", 0, 0, MAX_VCPU),
        "memory": wanted.integer("memory", 0, 0, MAX_MEMORY_MIB),
    }
    wanted.done()
    return {**size, **{key: value for key, value in changes.items() if value}}


async def make_room(service: "PodService", pod: Pod, raw: dict[str, Any]) -> None:
    """Let a VM that runs have what a container (its specification) may take that is to join.

    Called with the pod's lock held. Raises HyperError.
    """
    if pod.client is None or not isinstance(raw, dict):
        return
    limits = read_limits(Node(raw, f"containers[{len(pod.containers)}]"))
    had = {"vcpu": pod.spec.vcpu, "memory": pod.spec.memory}
    size = dict(had)
    if limits.memory > size["memory"] << 20:
        size["memory"] = vm_memory(limits.memory)
    cpus = max(size["vcpu"], -(-limits.nano_cpus // NANO))
    if (cpus, size["memory"]) == (had["vcpu"], had["memory"]):
        return
    # Whatever is wrong with it is said before.
    most = {"vcpu": min(cpus, MAX_VCPU), "memory": min(size["memory"], MAX_MEMORY_MIB)}
    parse_pod({**_without(whole(pod, raw), "resource"), "resource": most})
    await _resize(pod, pod.client, size, limits)
    pod.raw = {**_without(pod.raw, "resource"), "resource": size}
    pod.spec = replace(pod.spec, vcpu=size["vcpu"], memory=size["memory"])
    service.store.save_pod(pod)


async def _resize(pod: Pod, client: SandboxClient, size: dict[str, int], limits: Limits) -> None:
    """Give a VM that runs `size`, and CPUs for `limits`: it becomes what the VM has then."""
    had = pod.spec
    if size["vcpu"] >= had.vcpu:
        size["vcpu"] = max(size["vcpu"], -(-limits.nano_cpus // NANO))
    if size["vcpu"] > had.vcpu:
        await _more_cpus(client, size["vcpu"])
    cpus = size["vcpu"] if size["vcpu"] < had.vcpu else None
    memory = size["memory"] if size["memory"] < had.memory else None
    if cpus or memory:
        try:
            await client.set_vm_size(cpus=cpus, memory_mib=memory)
        except NotSupported:
            raise NotRunning(
                f"the VM of {pod.id} runs, and can only get more memory and CPUs: stop it for less"
            ) from None
    if size["memory"] > had.memory:
        size["memory"] = await client.grow(size["memory"])


async def _more_cpus(client: SandboxClient, count: int) -> None:
    """Xen's VMs get back those that they began with, other VMs get new ones."""
    try:
        await client.plug_cpus(count)
    except NotSupported as error:
        try:
            await client.set_vm_size(cpus=count)
        except NotSupported:
            raise error from None


def _policy(node: Node) -> str:
    """The restart policy as in a specification, "" for none."""
    policy = node.child("RestartPolicy")
    if policy is None:
        return ""
    name, retries = policy.text("Name"), policy.integer("MaximumRetryCount", 0, 0, 1 << 31)
    policy.done()
    if name and retries and name != "on-failure":
        raise policy.bad("MaximumRetryCount", "only on-failure has it")
    return f"{name}:{retries}" if retries else name


def _without(raw: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name.lower() != key.lower()}


async def restart(service: "PodService", container: Container, grace: float | None) -> None:
    """Stop a container if it runs, and start it. Grace in seconds, None: as it was created."""
    pod = service.pod_of(container)
    await service.stop(pod, [container], grace)
    await service.start(pod, [container])
    service.events.container("restart", pod, container)


async def prune(service: "PodService", filters: Mapping[str, list[str]]) -> tuple[list[str], int]:
    """Remove the containers that don't run; their ids, and the bytes that they took on disk.

    Filters are `label`, `label!` and `until` (as Docker's). Raises BadRequest.
    """
    for key in filters:
        if key not in _FILTERS:
            raise BadRequest(f"filters: {key!r} is none of {', '.join(_FILTERS)}")
    before = min((_until(value) for value in filters.get("until", [])), default=time.time())
    removed, size = [], 0
    # Those that need others first: they would keep them.
    chosen = [c for p in service.pods.values() for c in with_dependencies(p, p.containers)]
    for container in reversed(chosen):
        if container.state.status not in _ENDED or unix_time(container.created_at) > before:
            continue
        if not _labelled(service, container, filters):
            continue
        pod = service.pod_of(container)
        taken = await asyncio.to_thread(disk_usage, service.layout.container(container.id))
        try:
            await service.remove(pod, [container])
        except Conflict:
            continue  # it was started meanwhile
        removed.append(container.id)
        size += taken
    return removed, size


def _labelled(
    service: "PodService", container: Container, filters: Mapping[str, list[str]]
) -> bool:
    have = labels(service.pod_of(container), container)

    def has(wanted: str) -> bool:
        name, equals, value = wanted.partition("=")
        return name in have and (not equals or have[name] == value)

    return all(map(has, filters.get("label", []))) and not any(map(has, filters.get("label!", [])))


def _until(value: str) -> float:
    """Seconds since 1970 of a span before now, such as `24h`, or of a time. Raises BadRequest."""
    spans = _SPAN.findall(value)
    if spans and "".join(number + unit for number, unit in spans) == value:
        return time.time() - sum(float(number) * _UNITS[unit] for number, unit in spans)
    try:
        return float(value) if value.isascii() and value.isdigit() else unix_time(value)
    except (ValueError, OverflowError):
        raise BadRequest(f"filters: until: {value!r} is neither a time nor a span") from None


def disk_usage(path: Path) -> int:
    """The bytes that a file, or a directory and all in it, takes on disk; 0 when it is gone."""
    total = 0
    try:
        total = path.lstat().st_blocks * 512
        if path.is_dir():
            total += sum(disk_usage(entry) for entry in path.iterdir())
    except FileNotFoundError:
        pass
    return total
