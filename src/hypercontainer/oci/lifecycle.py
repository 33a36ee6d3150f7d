"""The commands on a container that exists: start, state, kill, delete, list, ps, pause, resume."""

import sys
import time

from ..errors import BadRequest, HyperError, NotFound, NotRunning
from ..quick import signals
from ..quick.types import Any
from ..sandbox import read_state
from ..sandbox.calls import call
from ..system import processes
from . import cgroups, records
from .arguments import Arguments
from .launch import kill_launched
from .records import Record

_END_BOUND = 30.0
_KILL_BOUND = 5.0
_NEWS_BOUND = 3.0


def start(args: Arguments) -> int:
    """Let the program of a created container run."""
    with records.locked(args.root, args.id):
        record = records.load(args.root, args.id)
        current, _ = records.status(args.root, record)
        if current == "stopped":
            raise NotRunning("cannot start a container that has stopped")
        if current != "created":
            raise NotRunning("cannot start an already running container")
        start_container(args.root, record)
    run_poststart(record)
    return 0


def start_container(root: str, record: Record) -> None:
    """Run the startContainer hooks and then the program of a created container."""
    from . import hooks

    sandbox = records.sandbox_of(root, record)
    hooks.run_in_container(
        record["hooks"], sandbox, record["guest_id"], records.state_of(record, "created")
    )
    call(sandbox, "start", {"container": record["guest_id"]})


def run_poststart(record: Record) -> None:
    """Run the poststart hooks. Raises HyperError with what a failing one said."""
    from . import hooks

    hooks.run(record, "poststart", records.state_of(record, "running"))


def state(args: Arguments) -> int:
    """Print the state as the runtime specification wants it (runtime.md "State")."""
    import json

    record = records.load(args.root, args.id)
    sys.stdout.write(json.dumps(_state(args.root, record), indent=2) + "\n")
    return 0


def _state(root: str, record: Record) -> dict[str, Any]:
    current, _ = records.status(root, record)
    return {**records.state_of(record, current), "owner": ""}


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def kill(args: Arguments) -> int:
    """Send a signal to the container's first process, or to all."""
    record = records.load(args.root, args.id)
    signum = parse_signal(args.signal)
    if signal_container(args.root, record, signum, to_all=args.all) or args.all:
        return 0
    raise NotRunning("container not running")


def signal_container(root: str, record: Record, signum: int, *, to_all: bool) -> bool:
    """Signal a container's first process, or all; 0 only looks. Returns whether it was alive."""
    if not _stopped(root, record):
        if signum == 0:
            return True
        request = {"container": record["guest_id"], "process": "init", "signal": signum}
        try:
            call(records.sandbox_of(root, record), "signal", {**request, "all": to_all})
            return True
        except HyperError:
            # The guest may know of its end before the sandbox has told it.
            deadline = time.monotonic() + _NEWS_BOUND
            while not _stopped(root, record):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    return False


def _stopped(root: str, record: Record) -> bool:
    return records.status(root, record)[0] == "stopped"


def parse_signal(text: str) -> int:
    """A signal by number or name, with or without SIG. Raises BadRequest."""
    if text.isascii() and text.isdigit():
        if int(text) <= 64:
            return int(text)
        raise BadRequest(f"unknown signal {text!r}")
    name = text.upper().removeprefix("SIG")
    if name.startswith("RTMIN+") and name[6:].isdigit() and int(name[6:]) <= 30:
        return 34 + int(name[6:])
    import signal

    number = getattr(signal, f"SIG{name}", None)
    if not isinstance(number, signal.Signals):
        raise BadRequest(f"unknown signal {text!r}")
    return int(number)


def delete(args: Arguments) -> int:
    """Delete a stopped container, or with --force any."""
    try:
        with records.locked(args.root, args.id):
            _delete(args)
    except NotFound:
        if not args.force:
            raise
    return 0


def _delete(args: Arguments) -> None:
    try:
        record = records.load(args.root, args.id)
    except NotFound:
        if not args.force:
            raise
        destroy(args.root, args.id)
        return
    current, _ = records.status(args.root, record)
    if current not in ("stopped", "created") and not args.force:
        raise NotRunning(f"cannot delete container {args.id} that is not stopped: {current}")
    destroy(args.root, args.id)


def destroy(root: str, cid: str) -> None:
    """End a container and its proxies, with its VM if it is the last there, and forget it.

    The caller holds its lock, or nobody else knows it.
    """
    try:
        record = records.load(root, cid)
    except NotFound:
        if records.members(root, cid):
            # Deleted already; its VM is that of others.
            return
        _end_sandbox(records.sandbox_directory(root, cid))
        cgroups.remove(root, cid)
        records.remove(root, cid)
        return
    # Two that leave at once shall not each take the other for one that stays.
    with records.locked_vm(root, record["owner"]):
        _leave(root, record)
    _run_poststop(record)


def _leave(root: str, record: Record) -> None:
    cid, owner = record["id"], record["owner"]
    sandbox = records.sandbox_of(root, record)
    last = len(records.members(root, owner)) <= 1
    if last:
        _end_sandbox(sandbox)
    else:
        _remove_from_pod(sandbox, record["guest_id"])
    proxies = {record["pid"]: record["pid_started"], **records.live_execs(root, cid)}
    for pid, started in proxies.items():
        processes.kill_and_wait(pid, started, signals.SIGKILL, _KILL_BOUND)
    # The VM of others stays in the group of its first container.
    cgroups.remove(root, cid, wait=last or cid != owner)
    if last and cid != owner:
        cgroups.remove(root, owner)
    records.remove(root, cid)
    records.remove_abandoned(root, owner)


def _run_poststop(record: Record) -> None:
    """Poststop hooks; a failing one is told and holds nothing up (runtime.md "Lifecycle")."""
    from . import hooks

    try:
        hooks.run(record, "poststop", records.state_of(record, "stopped"))
    except HyperError as error:
        sys.stderr.write(f"runv: warning: {error.message}\n")


def _remove_from_pod(sandbox: str, guest_id: str) -> None:
    try:
        call(sandbox, "remove", {"container": guest_id, "force": True}, timeout=_END_BOUND)
    except HyperError:
        pass


def _end_sandbox(sandbox: str) -> None:
    current = read_state(sandbox)
    if current is None:
        kill_launched(sandbox)
        return
    if not current["alive"]:
        _end_orphans()
        return
    try:
        call(sandbox, "shutdown", {"timeout": 0}, timeout=_END_BOUND)
    except HyperError:
        pass
    _wait_end(current)


def _end_orphans() -> None:
    """A sandbox that was killed may have left its VM, where another than the host runs it."""
    from ..sandbox import end_orphans

    try:
        end_orphans()
    except HyperError as error:
        sys.stderr.write(f"runv: warning: {error.message}\n")


def await_orderly_end(root: str, record: Record) -> None:
    """Wait until a VM whose containers have all ended has written its disks and is off.

    It does that by itself, and in a bounded time; one with others in it goes on.
    """
    current = read_state(records.sandbox_of(root, record))
    if current is None or not current["alive"]:
        return
    if all(c["status"] == "stopped" for c in current["containers"].values()):
        processes.kill_and_wait(current["pid"], current["started"], 0, _END_BOUND)


def _wait_end(current: dict[str, Any]) -> None:
    """Wait for the sandbox's own end; a hung one is killed, and its VM with it."""
    pid, started = current["pid"], current["started"]
    if not processes.kill_and_wait(pid, started, 0, _END_BOUND):
        processes.kill_and_wait(pid, started, signals.SIGKILL, _KILL_BOUND)


def list_all(args: Arguments) -> int:
    """List the containers of the root directory."""
    import json

    states = []
    for cid in records.all_ids(args.root):
        try:
            record = records.load(args.root, cid)
            states.append({**_state(args.root, record), "owner": _owner(record["uid"])})
        except NotFound:
            continue
    if args.quiet:
        lines = [s["id"] for s in states]
    elif args.format == "json":
        lines = [json.dumps(states, separators=(",", ":"))]
    else:
        keys = ("id", "pid", "status", "bundle", "created", "owner")
        rows = [[k.upper() for k in keys], *([str(s[k]) for k in keys] for s in states)]
        lines = _table(rows)
    sys.stdout.write("".join(line + "\n" for line in lines))
    return 0


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(12, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    return [
        "".join(cell.ljust(width + 3) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def ps(args: Arguments) -> int:
    """List the container's processes as the guest knows them; with JSON their proxies' pids,
    with arguments what the host's ps says of these.

    Engines look those up among the host's processes.
    """
    record = records.load(args.root, args.id)
    current, _ = records.status(args.root, record)
    own = records.pid(record, current)
    pids = [own, *sorted(records.live_execs(args.root, args.id))] if own else []
    if args.ps_args:
        sys.stdout.write("".join(line + "\n" for line in _host_ps(args.ps_args, pids)))
        return 0
    if args.format == "json":
        sys.stdout.write(f"{pids}\n")
        return 0
    found = []
    if current != "stopped":
        sandbox = records.sandbox_of(args.root, record)
        found = call(sandbox, "processes", {"container": record["guest_id"]})["processes"]
    keys = ("uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
    rows = [[key.upper() for key in keys], *([_cell(p, key) for key in keys] for p in found)]
    sys.stdout.write("".join(line + "\n" for line in _table(rows)))
    return 0


def _host_ps(arguments: list[str], pids: list[int]) -> list[str]:
    """The lines of the host's ps, called with `arguments`, that are about `pids`."""
    import subprocess

    done = subprocess.run(["ps", *arguments], capture_output=True, text=True, timeout=_END_BOUND)
    header, *lines = done.stdout.splitlines() or [""]
    columns = header.split()
    if done.returncode != 0 or "PID" not in columns:
        said = done.stderr.strip().splitlines()
        raise BadRequest(f"ps {' '.join(arguments)}: {said[0] if said else 'no column PID'}")
    at = columns.index("PID")
    wanted = {str(pid) for pid in pids}
    return [header, *(x for x in lines if len(x.split()) > at and x.split()[at] in wanted)]


def _cell(process: dict[str, Any], key: str) -> str:
    """A column of ps; the guest tells neither start nor time."""
    if key == "uid":
        return "root" if process.get("uid") == 0 else str(process.get("uid", ""))
    return str(process.get(key, {"c": "0", "tty": "?"}.get(key, "-")))


def pause(args: Arguments) -> int:
    """Suspend all processes of the container."""
    freeze(args.root, args.id, frozen=True)
    return 0


def resume(args: Arguments) -> int:
    """Let a paused container go on."""
    freeze(args.root, args.id, frozen=False)
    return 0


def freeze(root: str, cid: str, *, frozen: bool) -> None:
    """Suspend or resume a container. Raises NotRunning in a wrong state."""
    with records.locked(root, cid):
        record = records.load(root, cid)
        current, _ = records.status(root, record)
        if current != ("running" if frozen else "paused"):
            raise NotRunning(f"container is {current}, not {'running' if frozen else 'paused'}")
        sandbox = records.sandbox_of(root, record)
        call(sandbox, "freeze", {"container": record["guest_id"], "frozen": frozen})
