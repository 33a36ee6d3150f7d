"""Templates: VMs that were booted once and are cloned instead of booted.

A template is the guest's RAM in a sealed memfd, which a small holder process
keeps and clones map privately, and QEMU's device state in a file. Nobody can
change either: the memfd's seals hold against a clone's QEMU too. It is found
by a key of everything that it depends on; one that is stale, damaged or
another user's is passed over.

    DIRECTORY/KEY/state       device state of QEMU's migration stream
    DIRECTORY/KEY/meta.json   the holder's pid and start time, what hyperstart greeted with
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
from typing import Any, NamedTuple

from ..errors import HyperError
from ..system import memfd, processes, sparse
from ..system.directories import TEMPLATES
from ..system.files import write_atomic
from .driver import load
from .machine import Ends, Machine, Vmm
from .qemu_start import binary, command

DIRECTORY = TEMPLATES
MAX_TEMPLATES = 8
MAX_BYTES = 1 << 30
# What of a machine is kept with its template, from which `key` must come out again.
_KEPT = (
    *("kernel", "initrd", "bios", "cbfs", "accel", "cpus", "most_cpus", "memory_mib"),
    *("append", "network", "architecture"),
)
_FORMAT = 1
_HOLDER_FD = 3


class Template(NamedTuple):
    """An opened template: descriptors of its RAM and device state, and the guest's greeting."""

    key: str
    memory_fd: int
    state_fd: int
    guest: dict[str, Any]

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.memory_fd)
        os.close(self.state_fd)


def key(machine: Machine) -> str:
    """What a template for `machine` depends on, as a hexadecimal hash."""
    files = [
        (path, status.st_size, status.st_mtime_ns, status.st_ino)
        for path in (
            binary(machine.architecture),
            machine.kernel,
            machine.initrd,
            machine.bios,
        )
        if path
        for status in (os.stat(path),)
    ]
    inputs = [
        _FORMAT,
        files,
        machine.accel,
        machine.cpus,
        machine.memory_mib,
        shape(machine),
        os.geteuid(),
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]


def shape(machine: Machine) -> list[str]:
    """QEMU's command line, without what differs between VMs that can be clones of one."""
    same = machine._replace(
        name="",
        share="share" if machine.served else "",
        memory_fd=-1,
        saved=True,
        incoming=False,
        devices_only=False,
    )
    return command(same, dict.fromkeys(Ends._fields, 0))


def _directory(name: str) -> str:
    return os.path.join(DIRECTORY, name)


def possible(engine: str) -> bool:
    """Whether an engine's VMs can be clones."""
    return load(engine).features(engine).templates


def find(machine: Machine) -> Template | None:
    """The template that `machine` can be cloned from, None when there is no sound one."""
    if not possible(machine.accel):
        return None
    name = key(machine)
    meta = _meta(name)
    if meta is None or not processes.alive(meta["holder"], meta["holder_started"]):
        return None
    fds: list[int] = []
    try:
        fds.append(os.open(f"/proc/{meta['holder']}/fd/{_HOLDER_FD}", os.O_RDONLY | os.O_CLOEXEC))
        fds.append(os.open(os.path.join(_directory(name), "state"), os.O_RDONLY | os.O_CLOEXEC))
        memory, state = (os.fstat(fd) for fd in fds)
        sound = (
            memfd.sealed(fds[0])
            and memory.st_size == machine.memory_mib << 20
            and (state.st_size, state.st_uid) == (meta["state_size"], os.geteuid())
        )
    except OSError:
        sound = False
    if not sound:
        for fd in fds:
            os.close(fd)
        return None
    return Template(name, fds[0], fds[1], meta["guest"])


def _meta(name: str) -> dict[str, Any] | None:
    directory = _directory(name)
    try:
        if os.stat(directory).st_uid != os.geteuid():
            return None
        with open(os.path.join(directory, "meta.json"), "rb") as file:
            meta: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return None
    wanted = {"holder": int, "holder_started": int, "state_size": int, "guest": dict}
    return meta if all(isinstance(meta.get(k), t) for k, t in wanted.items()) else None


def start_vm(machine: Machine, found: Template | None) -> Vmm:
    """Start a VM that boots, or with a template one that waits for its state. Raises as `start`."""
    if machine.has_virtiofs:
        return _start_shared(machine, found)
    start = load(machine.accel).start
    if found is None:
        return start(machine)
    return start(machine._replace(memory_fd=found.memory_fd, incoming=True))


def _start_shared(machine: Machine, found: Template | None) -> Vmm:
    """With RAM that the share's server sees too: it can't be a private view of the template's."""
    memory_fd = new_memory(machine)
    try:
        if found is not None:
            sparse.copy(found.memory_fd, memory_fd)
        return load(machine.accel).start(
            machine._replace(memory_fd=memory_fd, incoming=found is not None)
        )
    finally:
        os.close(memory_fd)


def new_memory(machine: Machine) -> int:
    """A memfd for the RAM of a VM that becomes a template, or shares it. Raises OSError."""
    return memfd.new("hyper-memory", machine.memory_mib << 20)


def store(
    name: str, machine: Machine, memory_fd: int, state_path: str, guest: dict[str, Any]
) -> None:
    """Seal the RAM and make the template findable under `name`. Raises OSError.

    `state_path` is moved into place. The VM must be gone: a memory that is
    mapped writable can't be sealed.
    """
    memfd.seal(memory_fd)
    remove(name)
    directory = _directory(name)
    os.makedirs(directory, mode=0o700)
    os.replace(state_path, os.path.join(directory, "state"))
    holder = _hold(memory_fd, f"hyper-template: {machine.memory_mib} MiB")
    meta = {
        "holder": holder,
        "holder_started": processes.start_time(holder),
        "state_size": os.stat(os.path.join(directory, "state")).st_size,
        "guest": guest,
        "share": bool(machine.served),
        **{name: getattr(machine, name) for name in _KEPT},
    }
    write_atomic(os.path.join(directory, "meta.json"), json.dumps(meta).encode())
    _clear(name)


def _hold(memory_fd: int, name: str) -> int:
    """Leave a process that keeps the memory; it is nobody's child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            tell = fcntl.fcntl(write, fcntl.F_DUPFD, _HOLDER_FD + 1)
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.dup2(memory_fd, _HOLDER_FD)
            os.write(tell, os.getpid().to_bytes(4, "big"))
            os.closerange(_HOLDER_FD + 1, 1024)
            os.chdir("/")
            os.execv("/bin/sleep", [name, "infinity"])
        finally:
            os._exit(1)
    os.close(write)
    os.waitpid(child, 0)
    pid = int.from_bytes(os.read(read, 4), "big")
    os.close(read)
    if not pid:
        raise OSError(errno.ECHILD, "the process that holds its memory did not start")
    return pid


def names() -> list[str]:
    """The keys of all templates, the oldest first."""
    try:
        found = os.listdir(DIRECTORY)
    except FileNotFoundError:
        return []
    stamped = []
    for name in found:
        try:
            stamped.append((os.stat(os.path.join(_directory(name), "meta.json")).st_mtime, name))
        except OSError:
            continue
    return [name for _, name in sorted(stamped)]


def describe(name: str) -> dict[str, Any] | None:
    """What is known of a template; `usable` says whether its memory is still held."""
    meta = _meta(name)
    if meta is None:
        return None
    return {
        "key": name,
        "usable": processes.alive(meta["holder"], meta["holder_started"]),
        **{k: v for k, v in meta.items() if k not in ("guest", "holder_started")},
    }


def remove(name: str) -> bool:
    """Remove a template; clones of it go on. Returns whether there was one."""
    meta = _meta(name)
    if meta is not None:
        processes.kill_and_wait(meta["holder"], meta["holder_started"], signal.SIGKILL, 5.0)
    existed = os.path.isdir(_directory(name))
    shutil.rmtree(_directory(name), ignore_errors=True)
    return existed


def _clear(keep: str) -> None:
    """Remove templates that nothing can match any more, and the oldest beyond the limit."""
    for name in names():
        if name != keep and _stale(name):
            remove(name)
    left = [name for name in names() if name != keep]
    while left and (len(left) >= MAX_TEMPLATES or sum(map(_size, [*left, keep])) > MAX_BYTES):
        remove(left.pop(0))


def _size(name: str) -> int:
    """The bytes that a template's memory takes."""
    meta = _meta(name)
    try:
        return 512 * os.stat(f"/proc/{meta['holder']}/fd/{_HOLDER_FD}").st_blocks if meta else 0
    except OSError:
        return 0


def _stale(name: str) -> bool:
    meta = _meta(name)
    if meta is None or not processes.alive(meta["holder"], meta["holder_started"]):
        return True
    try:
        machine = Machine(
            name="",
            share="share" if meta["share"] else "",
            user_id=0,
            jail="",
            **{name: meta[name] for name in _KEPT},
        )
        return key(machine) != name
    except (HyperError, OSError, KeyError):
        return True
