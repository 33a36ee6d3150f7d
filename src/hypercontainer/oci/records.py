"""What runv knows of a container: `ROOT/ID/` with its record and its sandbox's state.

container.json   the record: bundle, rootfs, the proxy's pid, …
sandbox/         the state directory of the sandbox process
execs/PID        the start time of a proxy of `runv exec`
cgroup.json      the control group on the host
lock             held while a command creates or changes the container
vm.lock          held while a container leaves the VM that has its sandbox here
"""

import fcntl
import os
import time

from ..errors import BadRequest, Conflict, NotFound, Timeout
from ..quick import json
from ..quick.types import Any
from ..sandbox import read_state
from ..system import processes
from ..system.files import remove_tree, write_atomic
from .ids import is_id

Record = dict[str, Any]

_RECORD = "container.json"
_EXECS = "execs"
_LOCK_BOUND = 120.0
_LOCK_POLL = 0.01
# What the guest calls the first container of its VM.
GUEST_ID = "c"


def check_id(cid: str) -> None:
    """Raises BadRequest for an id that runc would refuse."""
    if not is_id(cid):
        raise BadRequest(f"invalid container id format: {cid!r}")


def directory(root: str, cid: str) -> str:
    """The container's directory."""
    check_id(cid)
    return os.path.join(root, cid)


def sandbox_directory(root: str, owner: str) -> str:
    """The state directory of the sandbox that the container `owner` was the first of."""
    return os.path.join(directory(root, owner), "sandbox")


def sandbox_of(root: str, record: Record) -> str:
    """The state directory of a container's sandbox."""
    return sandbox_directory(root, record["owner"])


def members(root: str, owner: str) -> list[Record]:
    """The containers that live in the VM of `owner`."""
    return [record for record in all_records(root) if record["owner"] == owner]


def guest_id(cid: str, owner: str) -> str:
    """What the guest calls a container: ids of engines may be longer than it takes."""
    if cid == owner:
        return GUEST_ID
    import hashlib

    return f"{GUEST_ID}-{hashlib.sha256(cid.encode()).hexdigest()[:32]}"


def reserve(root: str, cid: str) -> int:
    """Take the id, and the container's lock; returns the lock's descriptor.

    Raises Conflict when the id is taken, Abandoned when it is only by a
    creation that was killed.
    """
    os.makedirs(root, mode=0o711, exist_ok=True)
    path = directory(root, cid)
    everything = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Nobody sees the directory without its lock held.
        fcntl.flock(everything, fcntl.LOCK_EX)
        taken = os.path.exists(path)
        if not taken:
            os.mkdir(path, 0o700)
        lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _try_lock(lock) or (taken and os.path.exists(os.path.join(path, _RECORD))):
            os.close(lock)
            raise Conflict(f"container with given ID already exists: {cid}")
    finally:
        os.close(everything)
    if taken:
        os.close(lock)
        raise Abandoned(f"the creation of container {cid} was interrupted")
    return lock


class Abandoned(Conflict):
    """The id is held by what a killed creation left, and by nothing else."""


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def save(root: str, record: Record) -> None:
    """Write the record in one step."""
    write_atomic(os.path.join(directory(root, record["id"]), _RECORD), json.dumps(record).encode())


def load(root: str, cid: str) -> Record:
    """The record. Raises NotFound."""
    try:
        with open(os.path.join(directory(root, cid), _RECORD), "rb") as file:
            record: Record = json.load(file)
            return record
    except FileNotFoundError:
        raise NotFound(f"container does not exist: {cid}") from None


def remove(root: str, cid: str) -> None:
    """Forget the container; gone already is fine."""
    if len(members(root, cid)) > 1:
        # Others live in its VM: the directory stays for the sandbox, without the record.
        os.unlink(os.path.join(directory(root, cid), _RECORD))
        return
    remove_tree(directory(root, cid))


def remove_abandoned(root: str, owner: str) -> None:
    """Forget the directory of a deleted container once its VM has no other."""
    kept = os.path.exists(os.path.join(directory(root, owner), _RECORD))
    if not kept and not members(root, owner):
        remove_tree(directory(root, owner))


def all_records(root: str) -> list[Record]:
    """The records of all containers; one that vanishes meanwhile is left out."""
    found = []
    for cid in all_ids(root):
        try:
            found.append(load(root, cid))
        except NotFound:
            continue
    return found


def all_ids(root: str) -> list[str]:
    """The ids of all containers."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(n for n in names if os.path.exists(os.path.join(root, n, _RECORD)))


def locked(root: str, cid: str) -> "_Locked":
    """Change a container alone. Raises NotFound, and Timeout when another command hangs."""
    return _Locked(root, cid, "lock")


def locked_vm(root: str, owner: str) -> "_Locked":
    """Change who lives in the VM of `owner` alone. Raises as `locked`, which is taken first."""
    return _Locked(root, owner, "vm.lock")


class _Locked:
    """Holds one of a container's locks, for `with`."""

    def __init__(self, root: str, cid: str, name: str) -> None:
        self._cid = cid
        self._path = os.path.join(directory(root, cid), name)
        self._fd = -1

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise NotFound(f"container does not exist: {self._cid}") from None
        try:
            self._wait()
        except BaseException:
            os.close(self._fd)
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + _LOCK_BOUND
        while not _try_lock(self._fd):
            if time.monotonic() > deadline:
                raise Timeout(
                    f"container {self._cid} is in use by another command for {_LOCK_BOUND:.0f} s"
                )
            time.sleep(_LOCK_POLL)
        if not _is_file(self._fd, self._path):
            raise NotFound(f"container does not exist: {self._cid}")

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _is_file(fd: int, path: str) -> bool:
    """Whether `path` still is the file of `fd`: another command may have deleted the container."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def add_exec(root: str, cid: str, pid: int) -> None:
    """Note the proxy of a process that runs beside the container's first one."""
    live_execs(root, cid)
    execs = os.path.join(directory(root, cid), _EXECS)
    os.makedirs(execs, mode=0o700, exist_ok=True)
    write_atomic(os.path.join(execs, str(pid)), str(processes.start_time(pid) or 0).encode())


def live_execs(root: str, cid: str) -> dict[int, int]:
    """The proxies of `runv exec` that live, with their start times; the others are forgotten."""
    found = {}
    execs = os.path.join(directory(root, cid), _EXECS)
    try:
        names = [name for name in os.listdir(execs) if name.isdigit()]
    except FileNotFoundError:
        return {}
    for name in names:
        path = os.path.join(execs, name)
        try:
            with open(path) as file:
                started = int(file.read())
            if processes.alive(int(name), started):
                found[int(name)] = started
            else:
                os.unlink(path)
        except FileNotFoundError:
            continue
    return found


def status(root: str, record: Record) -> tuple[str, dict[str, Any]]:
    """The OCI status (created, running, paused, stopped) and the container's state."""
    state = read_state(sandbox_of(root, record))
    if state is None:
        return "stopped", {}
    container: dict[str, Any] = state["containers"].get(record["guest_id"], {})
    return str(container.get("status", "stopped")), container


def pid(record: Record, current: str) -> int:
    """The pid that stands for the container, 0 once it is over."""
    if current == "stopped" or not processes.alive(record["pid"], record["pid_started"]):
        return 0
    return int(record["pid"])


def state_of(record: Record, current: str) -> dict[str, Any]:
    """The state as the runtime specification wants it (runtime.md "State")."""
    return {
        "ociVersion": record["oci_version"],
        "id": record["id"],
        "pid": pid(record, current),
        "status": current,
        "bundle": record["bundle"],
        "rootfs": record["rootfs"],
        "created": record["created"],
        "annotations": record["annotations"],
    }
