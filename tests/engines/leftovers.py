"""What containers leave on the host: processes of VMs, mounts, interfaces, control groups, files.

Each engine has a directory and a name that everything of its containers carries.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

_SETTLE_BOUND = 20.0
_VM_MARKS = ("hypercontainer.sandbox.process", "process=hyper-vm")


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


def groups(name: str) -> set[str]:
    """Directories of control groups below one called `name`."""
    return {
        str(path)
        for hierarchy in Path("/sys/fs/cgroup").iterdir()
        for parent in hierarchy.rglob(name)
        for path in parent.rglob("*")
        if path.is_dir()
    }


def check_none(look: Callable[[], dict[str, object]]) -> None:
    """Fails when `look` keeps finding something; what ends a moment later is no leak."""
    deadline = time.monotonic() + _SETTLE_BOUND
    while left := {kind: found for kind, found in look().items() if found}:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


def remove_groups(name: str) -> None:
    """Remove the tests' own parent group."""
    for path in sorted(groups(name), key=len, reverse=True):
        _remove(Path(path))
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        for parent in hierarchy.rglob(name):
            _remove(parent)


def _remove(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        pass
