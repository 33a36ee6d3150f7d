"""One container in a pod's specification."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import BadRequest, NotSupported
from ..guest import platforms
from ..networks import Port
from .limits import Limits, read_limits
from .names import check_name
from .reading import Node, refuse
from .restart_policy import RestartPolicy, parse_restart_policy
from .spec_health import Dependency, HealthSpec, read_depends, read_health
from .spec_network import read_ports
from .spec_security import Security, known_ulimit, read_security
from .spec_volumes import (
    FileSource,
    InjectedFile,
    VolumeMount,
    VolumeSpec,
    check_files,
    disk_cache,
    read_injected,
    read_mounts,
)
from .values import parse_signal

DEFAULT_GRACE = 10
NEVER = RestartPolicy()
NO_LIMITS = Limits()
NO_SECURITY = Security()
MAX_GRACE = 86400


@dataclass(frozen=True, slots=True)
class OfPod:
    """What a pod says for its containers."""

    volumes: dict[str, VolumeSpec]
    files: dict[str, FileSource]
    tty: bool = False
    restart: RestartPolicy = NEVER


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
    restart: RestartPolicy
    health: HealthSpec | None
    depends: tuple[Dependency, ...]
    cache: str
    ports: tuple[Port, ...] = ()
    limits: Limits = NO_LIMITS
    security: Security = NO_SECURITY
    platform: str = ""


def restart_policy(node: Node, default: RestartPolicy = NEVER) -> RestartPolicy:
    """When it is started again."""
    value = node.text("restartPolicy")
    return parse_restart_policy(value, node.where("restartPolicy")) if value else default


def read_container(node: Node, pod: OfPod) -> ContainerSpec:
    """A UserContainer."""
    refuse(node, "id", why="it is made up for a container")
    refuse(node, "logPath", why="hyperd says where it is (LogPath of `hyper inspect`)")
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
    injected = tuple(read_injected(item, pod.files) for item in node.objects("files"))
    check_files(injected, node.where("files"))
    spec = ContainerSpec(
        name=name,
        image=image,
        workdir=workdir,
        command=node.maybe_texts("command") or None,
        entrypoint=node.maybe_texts("entrypoint") or None,
        env=_env(node),
        tty=node.boolean("tty") or pod.tty,
        stdin=node.maybe_boolean("stdin"),
        user=user,
        groups=groups,
        volumes=read_mounts(node, pod.volumes),
        files=injected,
        labels=node.mapping("labels"),
        stop_signal=stop_signal,
        stop_timeout=node.integer("stopTimeout", DEFAULT_GRACE, 0, MAX_GRACE),
        ulimits=tuple(_ulimit(item) for item in node.objects("ulimits")),
        sysctl=node.mapping("sysctl"),
        read_only=node.boolean("readOnly"),
        restart=restart_policy(node, pod.restart),
        health=read_health(node),
        depends=read_depends(node),
        limits=read_limits(node),
        security=read_security(node),
        cache=disk_cache(node),
        ports=read_ports(node, "ports"),
        platform=_platform(node),
    )
    node.done()
    return spec


def _platform(node: Node) -> str:
    """Which of the image's platforms is to run, "" for the one that is here."""
    try:
        return platforms.normal(node.text("platform"))
    except NotSupported as error:
        raise NotSupported(f"{node.where('platform')}: {error.message}") from None


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


def _ulimit(node: Node) -> Ulimit:
    name = node.text("Name").lower()
    if not known_ulimit(name):
        raise node.bad("Name", f"{name!r} is not a limit such as nofile")
    top = (1 << 63) - 1
    soft = node.integer("Soft", 0, -1, top)
    hard = node.integer("Hard", soft, -1, top)
    node.done()
    if -1 < hard < soft or (soft == -1 and hard != -1):
        raise node.bad("Soft", "it is more than Hard")
    return Ulimit(name, soft, hard)


def check_depends(containers: Sequence[ContainerSpec]) -> None:
    """Raises BadRequest for a name that the pod has not, and for a cycle, which it shows."""
    known = {c.name: c for c in containers if c.name}
    for index, container in enumerate(containers):
        for number, dependency in enumerate(container.depends):
            if dependency.name not in known:
                raise BadRequest(
                    f"containers[{index}].depends[{number}]: the pod has no container"
                    f" {dependency.name!r}"
                )
    done: set[str] = set()
    for name in known:
        _visit(name, known, done, [])


def _visit(name: str, known: dict[str, ContainerSpec], done: set[str], path: list[str]) -> None:
    if name in path:
        cycle = [*path[path.index(name) :], name]
        raise BadRequest(f"containers: depends goes in a circle: {' -> '.join(cycle)}")
    if name in done:
        return
    for dependency in known[name].depends:
        _visit(dependency.name, known, done, [*path, name])
    done.add(name)
