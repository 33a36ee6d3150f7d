"""`runv create` and `runv run`."""

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from ..errors import BadRequest, HyperError, NotSupported
from ..guest.fields import read_object, read_objects, read_text, read_texts
from ..sandbox import VMConfig, vm_size
from ..sandbox.calls import call
from ..sandbox.proxy import spawn
from ..system import cgroups as host_cgroups
from ..system import processes
from . import bundle, cgroups, hooks, pods, records, root_view, terminal, validate
from .launch import launch
from .namespaces import Placement, entering, place
from .records import Record, state_of


def create(args: argparse.Namespace) -> int:
    """Create a container; its program waits for `runv start`."""
    config, rootfs = _load(args, detach=True)
    with _reserved(args):
        _create(args, config, rootfs)
    return 0


def run(args: argparse.Namespace) -> int:
    """Create and start a container, and unless detached wait for it and delete it."""
    config, rootfs = _load(args, detach=args.detach)
    wants_terminal = bool(config["process"].get("terminal"))
    if args.detach or not wants_terminal or args.console_socket:
        return _run(args, config, rootfs)
    with terminal.own_terminal() as own:
        return _run(args, config, rootfs, own)


def _load(args: argparse.Namespace, *, detach: bool) -> tuple[dict[str, Any], str]:
    """The configuration and the root file system, found good before anything is made."""
    config, rootfs = bundle.load(args.bundle)
    records.check_id(args.id)
    if args.preserve_fds > 0:
        raise NotSupported(
            "--preserve-fds is not supported: a file descriptor of the host means nothing to a"
            " program in a VM"
        )
    wants_terminal = bool(config["process"].get("terminal"))
    if detach and wants_terminal and not args.console_socket:
        raise BadRequest(
            "cannot allocate tty if runv will detach without setting console socket:"
            " use --console-socket"
        )
    if args.console_socket and not (detach and wants_terminal):
        raise BadRequest("cannot use console socket if runv will not detach or allocate tty")
    # As with runc, a program that is given no capabilities has none.
    if config["process"].get("capabilities") is None:
        config["process"]["capabilities"] = {}
    _resolve_sources(config, args.bundle)
    validate.check(config, rootfs)
    return config, rootfs


def _resolve_sources(config: dict[str, Any], bundle_path: str) -> None:
    """A bind mount's source may be relative to the bundle (config.md "Mounts")."""
    for where, mount in read_objects(config, "mounts"):
        source = read_text(mount, "source", f"{where}.")
        options = read_texts(mount, "options", f"{where}.")
        if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
            mount["source"] = os.path.join(os.path.abspath(bundle_path), source)


def _run(args: argparse.Namespace, config: dict[str, Any], rootfs: str, own: int = 0) -> int:
    with _reserved(args):
        record = _create(args, config, rootfs, own)
        sandbox = records.sandbox_of(args.root, record)
        terminal.forward_signals(record["pid"])
        hooks.run_in_container(
            record["hooks"], sandbox, record["guest_id"], state_of(record, "created")
        )
        call(sandbox, "start", {"container": record["guest_id"]})
        hooks.run(config, "poststart", state_of(record, "running"))
        if args.detach:
            return 0
        if bool(record["terminal"]) and not args.console_socket:
            os.kill(record["pid"], signal.SIGWINCH)
    code = os.waitstatus_to_exitcode(os.waitpid(record["pid"], 0)[1])
    if not args.keep:
        from .lifecycle import destroy

        with records.locked(args.root, args.id):
            destroy(args.root, args.id)
    return code if code >= 0 else 128 - code


class _reserved:
    """Holds the id while the body creates the container; gives all back when it fails."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args

    def __enter__(self) -> None:
        check_pid_file(self._args.pid_file)
        try:
            self._lock = records.reserve(self._args.root, self._args.id)
        except records.Abandoned:
            from .lifecycle import destroy

            destroy(self._args.root, self._args.id)
            self._lock = records.reserve(self._args.root, self._args.id)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            from .lifecycle import destroy

            destroy(self._args.root, self._args.id)
        os.close(self._lock)


def _create(args: argparse.Namespace, config: dict[str, Any], rootfs: str, own: int = 0) -> Record:
    placement = place(args.root, config)
    owner = placement.peer["owner"] if placement.peer else args.id
    sandbox = records.sandbox_directory(args.root, owner)
    group = cgroups.prepare(args.root, args.id, config, systemd=args.systemd_cgroup)
    process = config.get("process") or {}
    with terminal.streams(bool(process.get("terminal")), args.console_socket, own) as streams:
        if placement.peer is None:
            vm = _vm(args, config, host_network=placement.host_network)
            listening = launch("runv", sandbox, vm, group, args.cache)
        else:
            listening = _nothing
        return _create_on(args, config, rootfs, placement, group, streams, listening)


def _nothing() -> None:
    """The sandbox is that of another container, and listens."""


def _create_on(
    args: argparse.Namespace,
    config: dict[str, Any],
    rootfs: str,
    placement: Placement,
    group: list[str],
    streams: terminal.Streams,
    listening: Callable[[], None],
) -> Record:
    owner = placement.peer["owner"] if placement.peer else args.id
    sandbox = records.sandbox_directory(args.root, owner)
    process = config.get("process") or {}
    pid, link = _proxy(args, process, placement, streams.controlling)
    # The kernel may take 10 ms to move a process, in which the guest makes the container.
    moving = threading.Thread(target=host_cgroups.enter, args=(group, pid), daemon=True)
    moving.start()
    record: Record = {
        "id": args.id,
        "owner": owner,
        "guest_id": records.guest_id(args.id, owner),
        "bundle": os.path.abspath(args.bundle),
        "rootfs": rootfs,
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
    try:
        _show_root(pid, rootfs)
        listening()
        if record["hooks"]:
            moving.join()
        for kind in ("prestart", "createRuntime", "createContainer"):
            hooks.run(config, kind, state_of(record, "creating"))
        if placement.peer is None and not placement.host_network:
            _follow_network(sandbox, pid, loopback=pods.is_pod(config))
        _send(sandbox, record, config, rootfs, placement, group, streams, link)
        moving.join()
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(link)
    records.save(args.root, record)
    write_pid_file(args.pid_file, pid)
    return record


def _limits(config: dict[str, Any]) -> dict[str, Any]:
    """What `runv update` starts from: the resources but for the devices."""
    resources = read_object(read_object(config, "linux"), "resources", "linux.")
    return {key: value for key, value in resources.items() if key != "devices"}


def _vm(args: argparse.Namespace, config: dict[str, Any], *, host_network: bool) -> VMConfig:
    cpus, memory = vm_size(pods.with_limits(config), args.default_cpus, args.default_memory)
    kernel = read_object(read_object(config, "vm"), "kernel", "vm.")
    return VMConfig(
        cpus=cpus,
        memory_mib=memory,
        accel=args.driver,
        kernel=args.kernel or read_text(kernel, "path", "vm.kernel.") or None,
        initrd=args.initrd or read_text(kernel, "initrd", "vm.kernel.") or None,
        append=" ".join(read_texts(kernel, "parameters", "vm.kernel.")),
        share=True,
        share_driver=args.share,
        linger=False,
        network="user" if host_network else "none",
        template=args.template,
    )


def _proxy(
    args: argparse.Namespace,
    process: dict[str, Any],
    placement: Placement,
    controlling: int | None,
) -> tuple[int, int]:
    enter_namespace = entering(placement)

    def enter() -> None:
        enter_namespace()
        if not args.no_pivot:
            root_view.leave_host_mounts()

    try:
        return spawn(read_texts(process, "args", "process."), enter, controlling)
    except OSError as error:
        raise HyperError(f"namespaces of {args.id}: {error.strerror}") from None


def _show_root(pid: int, rootfs: str) -> None:
    try:
        root_view.show_only(pid, rootfs)
    except OSError as error:
        raise HyperError(f"root file system {rootfs}: {error.strerror}: try --no-pivot") from None


def _follow_network(sandbox: str, pid: int, *, loopback: bool) -> None:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        call(sandbox, "network", {"loopback": loopback}, fds=[namespace])
    finally:
        os.close(namespace)


def _send(
    sandbox: str,
    record: Record,
    config: dict[str, Any],
    rootfs: str,
    placement: Placement,
    group: list[str],
    streams: terminal.Streams,
    link: int,
) -> None:
    """Have the sandbox create the container."""
    request = {
        "container": record["guest_id"],
        "config": config,
        "rootfs": {"kind": "share", "path": rootfs},
        "join": {kind: peer["guest_id"] for kind, peer in placement.shared.items()},
        "stdin": True,
        "group": group if placement.peer else [],
        "fds": [*streams.names, "proxy"],
    }
    call(sandbox, "create", request, fds=[*streams.fds, link])


def check_pid_file(path: str) -> None:
    """Raises BadRequest for a pid file in a directory that does not exist."""
    if path and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise BadRequest(f"pid file {path}: no such directory")


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid file in one step. Raises HyperError."""
    if not path:
        return
    from ..system.files import write_atomic

    try:
        write_atomic(path, str(pid).encode(), 0o644)
    except OSError as error:
        raise HyperError(f"pid file {path}: {error.strerror}") from None
