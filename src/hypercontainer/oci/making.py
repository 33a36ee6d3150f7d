"""Making a container in a VM, for `runv` and for containerd's shim."""

import os
import sys
import time

from ..errors import HyperError
from ..guest.fields import read_object, read_objects, read_text, read_texts
from ..guest.platforms import architecture
from ..guest.spec import disk_mounts
from ..quick import signals, threads
from ..quick.types import Any, Callable, NamedTuple
from ..sandbox import VMConfig, vm_size
from ..sandbox.calls import call
from ..sandbox.proxy import spawn
from ..system import cgroups as host_cgroups
from ..system import processes
from . import cgroups, hooks, pods, records, root_view, validate
from .launch import launch
from .namespaces import Placement, entering, place
from .providing import provide
from .records import Record, state_of
from .streams import Streams

ARCHITECTURE = "org.hypercontainer.architecture"
"""The annotation that says which architecture a VM is of: amd64 or arm64."""


class Settings(NamedTuple):
    """What a caller wants of all of its containers: runv's own flags (see `runv --help`).

    `ephemeral` says that nobody wants the VM, nor what is on its disks, once its last container
    has ended.
    """

    root: str
    systemd_cgroup: bool = False
    no_pivot: bool = False
    cache: int = 1
    driver: str = "auto"
    kernel: str | None = None
    initrd: str | None = None
    bios: str | None = None
    cbfs: str | None = None
    cpus: int = 1
    memory_mib: int = 128
    template: str = "auto"
    share: str = "9p"
    ephemeral: bool = False


class Wanted(NamedTuple):
    """A container that is to be made.

    `rootfs` is the root file system's directory on the host; `image` is what the sandbox is
    given in its place, as `SandboxClient.create_container` takes it; `pod` a container of ours
    whose VM it is to join, whatever its configuration says.
    """

    cid: str
    bundle: str
    config: dict[str, Any]
    rootfs: str
    image: dict[str, Any] | None = None
    pod: Record | None = None


def check(config: dict[str, Any], rootfs: str, bundle_path: str) -> None:
    """Complete what a bundle says, and find it good before anything is made.

    Raises BadRequest and NotSupported naming the key.
    """
    # As with runc, a program that is given no capabilities has none.
    if config["process"].get("capabilities") is None:
        config["process"]["capabilities"] = {}
    _resolve_sources(config, bundle_path)
    validate.check(config, rootfs)


def _resolve_sources(config: dict[str, Any], bundle_path: str) -> None:
    """A bind mount's source may be relative to the bundle (config.md "Mounts")."""
    for where, mount in read_objects(config, "mounts"):
        source = read_text(mount, "source", f"{where}.")
        options = read_texts(mount, "options", f"{where}.")
        if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
            mount["source"] = os.path.join(os.path.abspath(bundle_path), source)


class Reservation:
    """Holds the id while the body of `with` creates the container; all is given back when it fails.

    Raises Conflict when the id is taken.
    """

    def __init__(self, root: str, cid: str) -> None:
        self._root, self._cid = root, cid
        self._lock = -1

    def __enter__(self) -> None:
        try:
            self._lock = records.reserve(self._root, self._cid)
        except records.Abandoned:
            self._destroy()
            self._lock = records.reserve(self._root, self._cid)

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is not None:
                self._destroy()
        finally:
            os.close(self._lock)

    def _destroy(self) -> None:
        from .lifecycle import destroy

        destroy(self._root, self._cid)


def make(
    settings: Settings,
    wanted: Wanted,
    streams: Streams,
    on_sandbox: Callable[[str], None] = lambda sandbox: None,
    starting: Callable[[Record], None] | None = None,
) -> Record:
    """Create a reserved container up to the point before its program runs; returns its record.

    `on_sandbox` gets the state directory of its sandbox once that takes requests, before
    the container is made in it. With `starting`, which gets the record once that is saved, the
    program runs when this returns; hooks of startContainer are not run. Raises HyperError.
    """
    if settings.bios or settings.cbfs:
        _check_firmware(settings)
    placement = place(settings.root, wanted.config)
    if wanted.pod is not None:
        placement = placement._replace(peer=wanted.pod)
    owner = placement.peer["owner"] if placement.peer else wanted.cid
    sandbox = records.sandbox_directory(settings.root, owner)
    systemd = settings.systemd_cgroup
    group = cgroups.prepare(settings.root, wanted.cid, wanted.config, systemd=systemd)
    listening = _nothing
    if placement.peer is None:
        vm = _vm(settings, wanted.config, host_network=placement.host_network)
        listening = launch("runv", sandbox, vm, group, settings.cache)
    pid, link = _proxy(settings, wanted, placement, streams.controlling)
    # The kernel may take 10 ms to move a process, in which the guest makes the container.
    moved = threads.start(lambda: host_cgroups.enter(group, pid))
    follows = placement.peer is None and not placement.host_network
    connected = _nothing
    record = _record(wanted, owner, pid)
    try:
        _show_root(pid, wanted.rootfs)
        listening()
        on_sandbox(sandbox)
        if record["hooks"]:
            moved()
        for kind in ("prestart", "createRuntime", "createContainer"):
            hooks.run(wanted.config, kind, state_of(record, "creating"))
        if follows:
            loopback = pods.is_pod(wanted.config)
            # The guest makes the container meanwhile.
            connected = threads.start(lambda: _follow_network(sandbox, pid, loopback=loopback))
        if placement.peer is not None:
            _provide(settings.root, record)
        if starting is not None:
            records.save(settings.root, record)
            starting(record)
        _send(
            *(sandbox, record, wanted, placement, group, streams, link),
            follows=follows,
            start=starting is not None,
        )
        connected()
        moved()
        if starting is None:
            records.save(settings.root, record)
    except BaseException:
        os.kill(pid, signals.SIGKILL)
        raise
    finally:
        os.close(link)
    return record


def _nothing() -> None:
    """The sandbox is that of another container, and listens."""


def _check_firmware(settings: Settings) -> None:
    from ..sandbox import check_firmware

    warning = check_firmware(
        VMConfig(
            kernel=settings.kernel,
            initrd=settings.initrd,
            bios=settings.bios,
            cbfs=settings.cbfs,
        )
    )
    if warning:
        sys.stderr.write(f"runv: warning: {warning}\n")


def _record(wanted: Wanted, owner: str, pid: int) -> Record:
    config, process = wanted.config, wanted.config.get("process") or {}
    return {
        "id": wanted.cid,
        "owner": owner,
        "guest_id": records.guest_id(wanted.cid, owner),
        "bundle": os.path.abspath(wanted.bundle),
        "rootfs": wanted.rootfs,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "pid": pid,
        "pid_started": processes.start_time(pid) or 0,
        "terminal": bool(process.get("terminal")),
        "annotations": config.get("annotations") or {},
        "oci_version": config.get("ociVersion"),
        "process": process,
        "hooks": config.get("hooks") or {},
        "resources": _limits(config),
        "uid": os.getuid(),
    }


def _limits(config: dict[str, Any]) -> dict[str, Any]:
    """What `runv update` starts from: the resources but for the devices."""
    resources = read_object(read_object(config, "linux"), "resources", "linux.")
    return {key: value for key, value in resources.items() if key != "devices"}


def _vm(settings: Settings, config: dict[str, Any], *, host_network: bool) -> VMConfig:
    cpus, memory = vm_size(pods.with_limits(config), settings.cpus, settings.memory_mib)
    kernel = read_object(read_object(config, "vm"), "kernel", "vm.")
    return VMConfig(
        cpus=cpus,
        memory_mib=memory,
        accel=settings.driver,
        kernel=settings.kernel or read_text(kernel, "path", "vm.kernel.") or None,
        initrd=settings.initrd or read_text(kernel, "initrd", "vm.kernel.") or None,
        bios=settings.bios,
        cbfs=settings.cbfs,
        append=" ".join(read_texts(kernel, "parameters", "vm.kernel.")),
        share=True,
        share_driver=settings.share,
        linger=False,
        ephemeral=settings.ephemeral and not disk_mounts(config),
        network="user" if host_network else "none",
        template=settings.template,
        architecture=_architecture(config),
    )


def _architecture(config: dict[str, Any]) -> str:
    """That of the VM, as the annotation says. Raises BadRequest, NotSupported naming it."""
    name = read_text(read_object(config, "annotations"), ARCHITECTURE, "annotations.")
    return architecture(name, f"annotations.{ARCHITECTURE}:").name


def _proxy(
    settings: Settings, wanted: Wanted, placement: Placement, controlling: int | None
) -> tuple[int, int]:
    enter_namespace = entering(placement)

    def enter() -> None:
        enter_namespace()
        if not settings.no_pivot:
            root_view.leave_host_mounts()

    process = wanted.config.get("process") or {}
    try:
        return spawn(read_texts(process, "args", "process."), enter, controlling)
    except OSError as error:
        raise HyperError(f"namespaces of {wanted.cid}: {error.strerror}") from None


def _show_root(pid: int, rootfs: str) -> None:
    try:
        root_view.show_only(pid, rootfs)
    except OSError as error:
        raise HyperError(f"root file system {rootfs}: {error.strerror}: try --no-pivot") from None


def _provide(root: str, record: Record) -> None:
    """Where the VM can't get what the container may take, it runs with what there is."""
    try:
        resources = record["resources"]
        provide(root, record["owner"], record["id"], resources, resources)
    except HyperError as error:
        sys.stderr.write(f"runv: warning: limits of {record['id']}: {error.message}\n")


def _follow_network(sandbox: str, pid: int, *, loopback: bool) -> None:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        call(sandbox, "network", {"loopback": loopback}, fds=[namespace])
    finally:
        os.close(namespace)


def _send(
    sandbox: str,
    record: Record,
    wanted: Wanted,
    placement: Placement,
    group: list[str],
    streams: Streams,
    link: int,
    *,
    follows: bool,
    start: bool,
) -> None:
    """Have the sandbox create the container, and `start` it; `follows` says that it is told of
    a network too."""
    request = {
        "container": record["guest_id"],
        "config": wanted.config,
        "rootfs": wanted.image or {"kind": "share", "path": wanted.rootfs},
        "join": {kind: peer["guest_id"] for kind, peer in placement.shared.items()},
        "stdin": streams.has_input,
        "group": group if placement.peer else [],
        "fds": [*streams.names, "proxy"],
        "follows": follows,
        "start": start,
    }
    call(sandbox, "create", request, fds=[*streams.fds, link])
