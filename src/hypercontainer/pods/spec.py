"""The pod specification (UserPod of the original, JSON), checked key by key."""

from dataclasses import dataclass
from typing import Any

from ..errors import BadRequest
from .logconfig import LogConfig, read_log
from .names import check_hostname, check_name
from .reading import Node, refuse, unique
from .spec_container import (
    NEVER,
    ContainerSpec,
    OfPod,
    check_depends,
    read_container,
    restart_policy,
)
from .spec_network import NetSpec, addresses, read_network, with_ports, words
from .spec_volumes import read_file_source, read_volume

MIN_MEMORY_MIB = 48
MAX_MEMORY_MIB = 1 << 20
MAX_VCPU = 64
MAX_CONTAINERS = 64


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What a user asked of a pod. `memory` is in MiB.

    With `share` its VM can be given directories while it runs, even if it began with none.
    """

    id: str
    hostname: str
    labels: dict[str, str]
    vcpu: int
    memory: int
    log: LogConfig
    dns: tuple[str, ...]
    dns_options: tuple[str, ...]
    dns_search: tuple[str, ...]
    containers: tuple[ContainerSpec, ...]
    auto_remove: bool
    net: NetSpec
    share: bool

    @property
    def network(self) -> str:
        """none, user, or the name of the first network."""
        return self.net.mode


def split_pod(raw: dict[str, Any], pod_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A valid specification without its containers but with an id, and the containers."""
    pod = {key: value for key, value in raw.items() if key.lower() not in ("id", "containers")}
    (containers,) = [value for key, value in raw.items() if key.lower() == "containers"]
    return {**pod, "id": pod_id}, containers


def parse_pod(value: object) -> PodSpec:
    """Check a pod specification.

    Raises BadRequest with the path of the bad key (`containers[1].volumes[0].path: …`),
    or NotSupported for a key that is known and not implemented.
    """
    node = Node(value)
    refuse(node, "type", why="a pod has no types")
    restart = restart_policy(node)
    pod_id = node.text("id")
    if pod_id:
        check_name(pod_id, node.where("id"))
    hostname = node.text("hostname")
    if hostname:
        check_hostname(hostname, node.where("hostname"))
    resource = node.child("resource") or Node({}, node.where("resource"))
    vcpu = resource.integer("vcpu", 1, 0, MAX_VCPU) or 1
    memory = resource.integer("memory", 128, 0, MAX_MEMORY_MIB) or 128
    if memory < MIN_MEMORY_MIB:
        raise resource.bad("memory", f"a VM needs {MIN_MEMORY_MIB} MiB at least")
    resource.done()
    volumes = unique([read_volume(item) for item in node.objects("volumes")], "volumes")
    files = unique([read_file_source(item) for item in node.objects("files")], "files")
    net = read_network(node)
    auto_remove = node.boolean("autoRemove")
    whole = OfPod(volumes, files, node.boolean("tty"), restart)
    containers = [read_container(item, whole) for item in node.objects("containers")]
    if not containers:
        raise node.bad("containers", "a pod needs one container at least")
    if len(containers) > MAX_CONTAINERS:
        raise node.bad("containers", f"more than {MAX_CONTAINERS} containers in a pod")
    for index, container in enumerate(containers):
        if auto_remove and container.restart != NEVER:
            where = f"containers[{index}].restartPolicy"
            raise BadRequest(f"{where}: {container.restart.name} and autoRemove exclude each other")
        if container.limits.memory > memory << 20:
            where = f"containers[{index}].resources.memory"
            raise BadRequest(f"{where}: it is more than the {memory} MiB that the VM has")
        if container.limits.nano_cpus > vcpu * 10**9:
            where = f"containers[{index}].resources.cpus"
            raise BadRequest(f"{where}: it is more than the {vcpu} processors that the VM has")
    check_depends(containers)
    unique([(c.name, c) for c in containers if c.name], "containers")
    spec = PodSpec(
        id=pod_id,
        hostname=hostname,
        labels=node.mapping("labels"),
        vcpu=vcpu,
        memory=memory,
        log=read_log(node),
        dns=addresses(node, "dns"),
        dns_options=words(node, "dnsOptions"),
        dns_search=words(node, "dnsSearch"),
        containers=tuple(containers),
        auto_remove=auto_remove,
        share=node.boolean("share"),
        net=with_ports(net, tuple(port for c in containers for port in c.ports)),
    )
    node.done()
    return spec
