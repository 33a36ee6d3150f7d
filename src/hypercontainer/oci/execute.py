"""`runv exec`."""

import argparse
import os
import signal
import time
from typing import Any

from ..errors import BadRequest, NotRunning, NotSupported
from ..guest.fields import read_texts
from ..sandbox.calls import call
from ..sandbox.proxy import spawn
from ..system import cgroups as host_cgroups
from ..system import processes
from . import cgroups, records, terminal, validate
from .create import check_pid_file, write_pid_file

_PAUSE_POLL = 0.1


def execute(args: argparse.Namespace) -> int:
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
        with terminal.own_terminal() as own:
            return _run(args, process, own)
    return _run(args, process)


def _process(args: argparse.Namespace, record: records.Record) -> dict[str, Any]:
    if args.process:
        process = validate.read_process_file(args.process)
        # What it does not say, the container's own process says.
        for key in ("capabilities", "rlimits"):
            if process.get(key) is None:
                process[key] = (record["process"] or {}).get(key)
        return process
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


def _check(args: argparse.Namespace) -> None:
    """Raises BadRequest or NotSupported for flags that can't be honoured."""
    if args.pid_file and not os.path.isdir(os.path.dirname(os.path.abspath(args.pid_file))):
        raise BadRequest(f"pid file {args.pid_file}: no such directory")
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


def _run(args: argparse.Namespace, process: dict[str, Any], own: int = 0) -> int:
    check_pid_file(args.pid_file)
    with terminal.streams(bool(process.get("terminal")), args.console_socket, own) as streams:
        pid = _start(args, process, streams)
    write_pid_file(args.pid_file, pid)
    if args.detach:
        return 0
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _start(args: argparse.Namespace, process: dict[str, Any], streams: terminal.Streams) -> int:
    """Have the sandbox run the process on `streams`; returns the pid of its proxy."""
    record = records.load(args.root, args.id)
    group = cgroups.group_of(args.root, args.id)
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
        raise NotRunning(f"cannot exec in container {args.id}: {error.strerror}") from None
    records.add_exec(args.root, args.id, pid)
    terminal.forward_signals(pid)
    request = {
        "container": record["guest_id"],
        "process": f"exec-{pid}-{os.urandom(4).hex()}",
        "spec": process,
        "stdin": True,
        "fds": [*streams.names, "proxy"],
    }
    try:
        call(records.sandbox_of(args.root, record), "exec", request, fds=[*streams.fds, link])
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(link)
    return pid
