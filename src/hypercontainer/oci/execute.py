"""`runv exec`."""

import os
import time

from ..errors import BadRequest, NotRunning, NotSupported
from ..guest.fields import read_texts
from ..quick import signals
from ..quick.types import Any, Callable
from ..sandbox.calls import call
from ..sandbox.proxy import spawn
from ..system import cgroups as host_cgroups
from ..system import processes
from . import cgroups, records, validate
from .arguments import Arguments
from .pid_file import check_pid_file, write_pid_file
from .streams import Streams, forward_signals, open_streams

_PAUSE_POLL = 0.1


def execute(args: Arguments) -> int:
    """Run another process in a running container."""
    _check(args)
    record = records.load(args.root, args.id)
    current, _ = records.status(args.root, record)
    while current == "paused":
        if not args.ignore_paused:
            raise NotRunning("cannot exec in a paused container (use --ignore-paused to override)")
        # The program would not run before either.
        time.sleep(_PAUSE_POLL)
        current, _ = records.status(args.root, record)
    if current not in ("created", "running"):
        raise NotRunning(f"cannot exec in a {current} container")
    process = _process(args, record)
    if process.get("terminal") and not args.console_socket:
        if args.detach:
            raise BadRequest(
                "cannot allocate tty if runv will detach without setting console socket:"
                " use --console-socket"
            )
        from .terminal import own_terminal

        with own_terminal() as own:
            return _run(args, process, own)
    return _run(args, process)


def _process(args: Arguments, record: records.Record) -> dict[str, Any]:
    if args.process:
        return completed(validate.read_process_file(args.process), record)
    if not args.args:
        raise BadRequest("exec: a program or --process is needed")
    base = dict(record["process"] or {})
    base.update(
        args=args.args,
        terminal=args.tty,
        cwd=args.cwd or base.get("cwd") or "/",
        env=[*(base.get("env") or []), *args.env],
    )
    user = dict(base.get("user") or {})
    if args.user:
        user.update(_user(args.user))
    if args.additional_gids:
        user["additionalGids"] = [*(user.get("additionalGids") or []), *args.additional_gids]
    base["user"] = user
    if args.no_new_privs:
        base["noNewPrivileges"] = True
    if args.cap:
        sets = base.get("capabilities") or {}
        more = {
            name: [*(sets.get(name) or []), *args.cap]
            for name in ("bounding", "effective", "permitted")
        }
        base["capabilities"] = {**sets, **more}
    return base


def completed(process: dict[str, Any], record: records.Record) -> dict[str, Any]:
    """A process object with what it does not say and the container's own process does."""
    own = record["process"] or {}
    return {
        **process,
        **{key: own.get(key) for key in ("capabilities", "rlimits") if process.get(key) is None},
    }


def _check(args: Arguments) -> None:
    """Raises BadRequest or NotSupported for flags that can't be honoured."""
    check_pid_file(args.pid_file)
    if args.preserve_fds > 0:
        raise NotSupported(
            "--preserve-fds is not supported: a file descriptor of the host means nothing to a"
            " program in a VM"
        )
    if args.cgroup:
        raise NotSupported("exec --cgroup is not supported: a container has one group in the VM")


def _user(text: str) -> dict[str, int]:
    """A `UID[:GID]`; without a group it stays the container's."""
    uid, colon, gid = text.partition(":")
    try:
        return {"uid": int(uid), "gid": int(gid)} if colon else {"uid": int(uid)}
    except ValueError:
        raise BadRequest(f"user {text!r}: uid[:gid] in numbers is expected") from None


def _run(args: Arguments, process: dict[str, Any], own: int = 0) -> int:
    record = records.load(args.root, args.id)
    streams = open_streams(bool(process.get("terminal")), args.console_socket, own)
    try:
        pid = start_process(args.root, record, process, streams, forward_signals)
    finally:
        streams.close()
    write_pid_file(args.pid_file, pid)
    if args.detach:
        return 0
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def start_process(
    root: str,
    record: records.Record,
    process: dict[str, Any],
    streams: Streams,
    on_proxy: Callable[[int], None],
    *,
    name: str = "",
) -> int:
    """Have the sandbox run a process on `streams`; returns the pid of its proxy.

    `on_proxy` gets that before the process runs; `name` is what the sandbox calls it.
    """
    group = cgroups.group_of(root, record["id"])
    if not processes.alive(record["pid"], record["pid_started"]):
        raise NotRunning("cannot exec in a stopped container")
    try:
        pid, link = spawn(
            read_texts(process, "args", "process."),
            lambda: host_cgroups.enter(group, os.getpid()),
            streams.controlling,
            beside=record["pid"],
        )
    except OSError as error:
        raise NotRunning(f"cannot exec in container {record['id']}: {error.strerror}") from None
    records.add_exec(root, record["id"], pid)
    on_proxy(pid)
    request = {
        "container": record["guest_id"],
        "process": name or f"exec-{pid}-{os.urandom(4).hex()}",
        "spec": process,
        "stdin": streams.has_input,
        "fds": [*streams.names, "proxy"],
    }
    try:
        call(records.sandbox_of(root, record), "exec", request, fds=[*streams.fds, link])
    except BaseException:
        os.kill(pid, signals.SIGKILL)
        raise
    finally:
        os.close(link)
    return pid
