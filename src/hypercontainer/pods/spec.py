"""The pod specification (UserPod of the original, JSON), checked key by key."""

import base64
import binascii
import ipaddress
import posixpath
import re
import signal
from dataclasses import dataclass
from typing import TypeVar

from ..errors import BadRequest, NotSupported
from .logconfig import LogConfig, read_log
from .names import check_hostname, check_name
from .reading import Node

T = TypeVar("T")

MIN_MEMORY_MIB = 48
MAX_MEMORY_MIB = 1 << 20
MAX_VCPU = 64
MAX_CONTAINERS = 64
DEFAULT_GRACE = 10
MAX_GRACE = 86400
_PERM = re.compile(r"0[0-7]{3}|0", re.ASCII)
_ULIMIT = re.compile(r"[a-z]+", re.ASCII)
_CACHES = ("off", "none", "directsync", "writeback", "unsafe", "writethrough")
_UNSUPPORTED_FORMATS = ("raw", "qcow2", "vdi", "rbd", "nas")


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A volume: `source` is a path of the host; empty for one that hyperd keeps."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume in a container. With no name and no source it is anonymous."""

    path: str
    volume: VolumeSpec
    read_only: bool


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """A file put over the image's."""

    path: str
    content: str
    mode: int


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit: name as in `ulimits` of Docker, e.g. nofile."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What a user asked of one container. None: as the image says; `stop_timeout` is in s."""

    name: str
    image: str
    workdir: str
    command: tuple[str, ...] | None
    entrypoint: tuple[str, ...] | None
    env: tuple[tuple[str, str], ...]
    tty: bool
    stdin: bool | None
    user: str
    groups: tuple[str, ...]
    volumes: tuple[VolumeMount, ...]
    files: tuple[InjectedFile, ...]
    labels: dict[str, str]
    stop_signal: str
    stop_timeout: int
    ulimits: tuple[Ulimit, ...]
    sysctl: dict[str, str]
    read_only: bool


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What a user asked of a pod. `memory` is in MiB."""

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
    network: str


def parse_pod(value: object) -> PodSpec:
    """Check a pod specification.

    Raises BadRequest with the path of the bad key (`containers[1].volumes[0].path: …`),
    or NotSupported for a key that is known and not implemented.
    """
    node = Node(value)
    _refuse(node, "interfaces", "services", "portmappings", "portmappingWhiteLists", "type")
    _restart_policy(node)
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
    volumes = _unique([_volume(item) for item in node.objects("volumes")], "volumes")
    files = _unique([_file_source(item) for item in node.objects("files")], "files")
    tty = node.boolean("tty")
    containers = [_container(item, volumes, files, tty) for item in node.objects("containers")]
    if not containers:
        raise node.bad("containers", "a pod needs one container at least")
    if len(containers) > MAX_CONTAINERS:
        raise node.bad("containers", f"more than {MAX_CONTAINERS} containers in a pod")
    _unique([(c.name, c) for c in containers if c.name], "containers")
    spec = PodSpec(
        id=pod_id,
        hostname=hostname,
        labels=node.mapping("labels"),
        vcpu=vcpu,
        memory=memory,
        log=read_log(node),
        dns=_addresses(node, "dns"),
        dns_options=_words(node, "dnsOptions"),
        dns_search=_words(node, "dnsSearch"),
        containers=tuple(containers),
        auto_remove=node.boolean("autoRemove"),
        network=node.choice("network", ("user", "none"), "none"),
    )
    node.done()
    return spec


def parse_signal(value: str, where: str) -> int:
    """A signal by number or name, with or without SIG. Raises BadRequest naming `where`."""
    if value.isascii() and value.isdigit() and len(value) < 4 and 0 < int(value) <= 64:
        return int(value)
    name = value.upper().removeprefix("SIG")
    if match := re.fullmatch(r"RT(MIN|MAX)([+-]\d{1,2})?", name, re.ASCII):
        base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
        number = int(base) + int(match[2] or 0)
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    known = getattr(signal, "SIG" + name, None)
    if not isinstance(known, signal.Signals):
        raise BadRequest(f"{where}: unknown signal {value!r}")
    return int(known)


def _refuse(node: Node, *keys: str) -> None:
    for key in keys:
        if node.take(key):
            raise NotSupported(f"{node.where(key)}: not supported yet")


def _restart_policy(node: Node) -> None:
    policy = node.text("restartPolicy")
    if policy.lower() not in ("", "never", "no"):
        raise NotSupported(f"{node.where('restartPolicy')}: {policy} is not supported yet")


def _unique(items: list[tuple[str, T]], what: str) -> dict[str, T]:
    result: dict[str, T] = {}
    for index, (name, item) in enumerate(items):
        if name in result:
            raise BadRequest(f"{what}[{index}].name: {name!r} is used twice")
        result[name] = item
    return result


def _addresses(node: Node, key: str) -> tuple[str, ...]:
    values = node.texts(key)
    for index, value in enumerate(values):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise BadRequest(
                f"{node.where(key)}[{index}]: {value!r} is not an IP address"
            ) from None
    return values


def _words(node: Node, key: str) -> tuple[str, ...]:
    values = node.texts(key)
    for index, value in enumerate(values):
        if not value or any(c.isspace() for c in value):
            raise BadRequest(f"{node.where(key)}[{index}]: {value!r} is not one word")
    return values


def _volume(node: Node) -> tuple[str, VolumeSpec]:
    name, source = node.text("name"), node.text("source")
    if name:
        check_name(name, node.where("name"))
    kind = node.text("format") or node.text("driver")
    node.take("driver")
    if kind in _UNSUPPORTED_FORMATS:
        raise NotSupported(f"{node.where('format')}: {kind} volumes are not supported yet")
    if kind not in ("", "vfs"):
        raise node.bad("format", f"unknown format {kind!r}")
    if source and (not source.startswith("/") or ".." in source.split("/")):
        raise node.bad("source", f"{source!r} is not an absolute path without '..'")
    _refuse(node, "option", "fstype")
    _cache(node)
    node.done()
    return name, VolumeSpec(name, _normal(source) if source else "")


def _normal(path: str) -> str:
    """An absolute path without superfluous slashes and dots (normpath keeps a leading `//`)."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _cache(node: Node) -> None:
    if cache := node.text("cache"):
        if cache not in _CACHES:
            raise node.bad("cache", f"{cache!r} is none of {', '.join(_CACHES)}")
        raise NotSupported(f"{node.where('cache')}: not supported yet")


def _file_source(node: Node) -> tuple[str, str]:
    """The name and content of a UserFile."""
    name, content = node.text("name"), node.text("content")
    if not name:
        raise node.bad("name", "missing")
    _refuse(node, "uri")
    encoding = node.choice("encoding", ("raw", "base64"), "raw")
    if encoding == "base64":
        try:
            content = base64.b64decode(content, validate=True).decode()
        except binascii.Error:
            raise node.bad("content", "is not base64") from None
        except UnicodeDecodeError:
            raise NotSupported(
                f"{node.where('content')}: binary files are not supported yet"
            ) from None
    node.done()
    return name, content


def _container(
    node: Node, volumes: dict[str, VolumeSpec], files: dict[str, str], tty: bool
) -> ContainerSpec:
    _refuse(node, "id", "ports", "logPath")
    _restart_policy(node)
    _cache(node)
    name, image = node.text("name"), node.text("image")
    if name:
        check_name(name, node.where("name"))
    if not image:
        raise node.bad("image", "missing: which image is to run?")
    workdir = node.text("workdir")
    if workdir and not workdir.startswith("/"):
        raise node.bad("workdir", f"{workdir!r} is not an absolute path")
    stop_signal = node.text("StopSignal")
    if stop_signal:
        parse_signal(stop_signal, node.where("StopSignal"))
    user, groups = _user(node)
    spec = ContainerSpec(
        name=name,
        image=image,
        workdir=workdir,
        command=node.maybe_texts("command") or None,
        entrypoint=node.maybe_texts("entrypoint") or None,
        env=_env(node),
        tty=node.boolean("tty") or tty,
        stdin=node.maybe_boolean("stdin"),
        user=user,
        groups=groups,
        volumes=_mounts(node, volumes),
        files=tuple(_injected(item, files) for item in node.objects("files")),
        labels=node.mapping("labels"),
        stop_signal=stop_signal,
        stop_timeout=node.integer("stopTimeout", DEFAULT_GRACE, 0, MAX_GRACE),
        ulimits=tuple(_ulimit(item) for item in node.objects("ulimits")),
        sysctl=node.mapping("sysctl"),
        read_only=node.boolean("readOnly"),
    )
    node.done()
    return spec


def _env(node: Node) -> tuple[tuple[str, str], ...]:
    result: dict[str, str] = {}
    for item in node.objects("envs"):
        name = item.text("env")
        if not name or "=" in name:
            raise item.bad("env", f"{name!r} is not the name of a variable")
        if name in result:
            raise item.bad("env", f"{name!r} is given twice")
        result[name] = item.text("value")
        item.done()
    return tuple(result.items())


def _user(node: Node) -> tuple[str, tuple[str, ...]]:
    """`USER[:GROUP]` (also taken as one string) and supplementary groups."""
    value = node.take("user")
    if value is None or isinstance(value, str):
        return value or "", ()
    user = Node(value, node.where("user"))
    name, group, groups = user.text("name"), user.text("group"), user.texts("additionalGroups")
    user.done()
    if group and not name:
        raise user.bad("group", "a group needs a user name")
    return (f"{name}:{group}" if group else name), groups


def _mounts(node: Node, volumes: dict[str, VolumeSpec]) -> tuple[VolumeMount, ...]:
    result: dict[str, VolumeMount] = {}
    for item in node.objects("volumes"):
        path = item.text("path")
        if not path.startswith("/") or ".." in path.split("/") or _normal(path) == "/":
            raise item.bad("path", f"{path!r} is not an absolute path below / without '..'")
        path = _normal(path)
        if path in result:
            raise item.bad("path", f"{path} has two volumes")
        name, detail = item.text("volume"), item.child("detail")
        if detail is not None:
            inline_name, volume = _volume(detail)
            volume = VolumeSpec(inline_name or name, volume.source)
        elif not name:
            volume = VolumeSpec("", "")
        elif name in volumes:
            volume = volumes[name]
        else:
            raise item.bad("volume", f"the pod has no volume {name!r}")
        result[path] = VolumeMount(path, volume, item.boolean("readOnly"))
        item.done()
    return tuple(result.values())


def _injected(node: Node, files: dict[str, str]) -> InjectedFile:
    path, name = node.text("path"), node.text("filename")
    if not path.startswith("/"):
        raise node.bad("path", f"{path!r} is not an absolute path")
    detail = node.child("detail")
    if detail is not None:
        _, content = _file_source(detail)
    elif name in files:
        content = files[name]
    else:
        raise node.bad("filename", f"the pod has no file {name!r}")
    for key in ("user", "group"):
        if node.text(key) not in ("", "root", "0"):
            raise NotSupported(f"{node.where(key)}: not supported yet")
    perm = node.text("perm") or "0755"
    if not _PERM.fullmatch(perm):
        raise node.bad("perm", f"{perm!r} is not a mode such as 0644")
    node.done()
    return InjectedFile(path + name if path.endswith("/") else path, content, int(perm, 8))


def _ulimit(node: Node) -> Ulimit:
    name = node.text("Name").lower()
    if not _ULIMIT.fullmatch(name):
        raise node.bad("Name", f"{name!r} is not a limit such as nofile")
    top = (1 << 63) - 1
    soft = node.integer("Soft", 0, -1, top)
    hard = node.integer("Hard", soft, -1, top)
    node.done()
    return Ulimit(name, soft, hard)
