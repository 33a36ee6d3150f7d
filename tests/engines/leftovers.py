"""What containers leave on the host: processes of VMs, mounts, interfaces, control groups, files.

Each engine has a directory and a name that everything of its containers carries.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

_SETTLE_BOUND = 20.0
_VM_MARKS = ("hypercontainer.sandbox.process", "process=hyper-vm")


class Engine(Protocol):
    """What leaves things."""

    def look(self) -> dict[str, object]:
        """What is left of containers, by kind."""

    def close(self) -> None:
        """Stop it."""


E = TypeVar("E", bound=Engine)


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _groups(entry: Path) -> str:
    try:
        return (entry / "cgroup").read_text()
    except OSError:
        return ""


def vm_processes(mark: str) -> dict[int, str]:
    """Sandboxes and QEMUs, and members of control groups, whose path or group carries `mark`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        command = _command(entry)
        of_vm = any(text in command for text in _VM_MARKS) and mark in command
        if of_vm or f"/{mark}" in _groups(entry):
            found[int(entry.name)] = command[:150]
    return found


def naming(*texts: str) -> dict[int, str]:
    """Processes whose command line has all these texts."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and all(text in _command(entry) for text in texts):
            found[int(entry.name)] = _command(entry)[:150]
    return found


def shims(mark: str) -> list[int]:
    """Shims whose command line has `mark`, and runv's that another process forked."""
    forked = naming("hypercontainer.containerd.shim.nursery")
    own = [pid for pid in forked if _name(pid) == "containerd-shim"]
    return [*naming("containerd-shim-", mark), *own]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def waits_for_keeper(pid: int) -> bool:
    """Whether a process is a conmon that runv's keeper is a child of, for whose end it waits."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return False
    return bool(children) and all(_name(int(child)) == "hyper-keeper" for child in children)


def kill_all(directory: str) -> None:
    """Kill the processes of an engine that could not be stopped: those that name its directory."""
    for pid in naming(directory):
        if pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def groups(name: str) -> set[str]:
    """Directories of control groups below one called `name`."""
    return {path for path in _groups_named(name) if f"/{name}/" in path}


def _groups_named(name: str) -> list[str]:
    """Those called `name` and all below them; others may vanish meanwhile."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = {fields[1] for fields in mounts if fields[2] in ("cgroup", "cgroup2")}
    walked = (directory for root in roots for directory, _, _ in os.walk(root))
    return [path for path in walked if f"/{name}/" in f"{path}/"]


@contextmanager
def checked(engine: E) -> Iterator[E]:
    """An engine for a module's tests, closed afterwards; fails when they have left something."""
    try:
        yield engine
        check_none(engine.look)
    finally:
        engine.close()


def check_none(look: Callable[[], dict[str, object]]) -> None:
    """Fails when `look` keeps finding something; what ends a moment later is no leak."""
    deadline = time.monotonic() + _SETTLE_BOUND
    while left := {kind: found for kind, found in look().items() if found}:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


def remove_groups(name: str) -> None:
    """Remove the tests' own parent group.

    Podman makes plain directories where version 1 lacks a controller; they go too.
    """
    for path in sorted(_groups_named(name), key=len, reverse=True):
        try:
            os.rmdir(path)
        except OSError:
            pass
    for plain in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        if not (plain / "cgroup.controllers").exists() and not (plain / "tasks").exists():
            shutil.rmtree(plain, ignore_errors=True)
