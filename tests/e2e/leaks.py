"""What a test leaves on the host: processes, mounts, interfaces, cgroups, sockets, files.

Other tests and people work on the same host, so only what carries one of the
given directories, or descends from a process that does, is looked at.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.system.processes import kill_and_wait

_SETTLE_BOUND = 15.0


def _read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _read(entry / "stat").rpartition(")")[2].split()
            if stat and stat[0] not in "ZX":
                found[int(entry.name)] = int(stat[1])
    return found


def processes(directories: list[str]) -> set[str]:
    """Live processes whose command line or working directory names one of `directories`, or
    whose ancestor's does."""
    parents = _parents()
    own = {os.getpid(), *_ancestors(os.getpid(), parents)}

    def carries(pid: int) -> bool:
        entry = Path(f"/proc/{pid}")
        try:
            cwd = os.readlink(entry / "cwd")
        except OSError:
            cwd = ""
        text = f"{_read(entry / 'cmdline')} {cwd}"
        return any(directory in text for directory in directories)

    marked = {pid for pid in parents if pid not in own and carries(pid)}
    return {
        f"{pid} {_read(Path(f'/proc/{pid}/cmdline'))[:120]}"
        for pid in parents
        if pid in marked or marked & set(_ancestors(pid, parents))
    }


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while (pid := parents.get(pid, 0)) > 1:
        yield pid


def _lines_with(path: str, directories: list[str]) -> set[str]:
    return {line for line in _read(Path(path)).splitlines() if any(d in line for d in directories)}


def _entry(namespace: str) -> list[str]:
    """What begins a command in a network namespace by its name, or in ours."""
    return ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []


def listening(namespace: str = "") -> list[int]:
    """Ports of TCP of such a namespace that somebody listens on but the name server, each once."""
    lines = _output(*_entry(namespace), "ss", "-Hltn").splitlines()
    return sorted({int(line.split()[3].rpartition(":")[2]) for line in lines} - {53})


def network(namespace: str = "") -> dict[str, set[str]]:
    """Interfaces, addresses, routes and rules: of a network namespace by its name, or of ours.

    Everything in it counts, so it has to be a test's own.
    """
    entry = _entry(namespace)
    links = json.loads(_output(*entry, "ip", "-j", "address"))
    routes = [
        line
        for family in ("-4", "-6")
        for line in _output(*entry, "ip", family, "route").splitlines()
        if not line.startswith("fe80:")
    ]
    return {
        "interfaces": {link["ifname"] for link in links},
        "addresses": {
            f"{link['ifname']} {address['local']}/{address['prefixlen']}"
            for link in links
            for address in link["addr_info"]
            if not address["local"].startswith("fe80:")
        },
        "routes": {line.replace("linkdown", "").rstrip() for line in routes},
        "rules": set(_output(*entry, "nft", "list", "ruleset").splitlines()),
    }


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def _cgroups(directories: list[str]) -> set[str]:
    names = {Path(directory).name for directory in directories}
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-type", "d"], capture_output=True, text=True, timeout=30
    )
    return {path for path in found.stdout.splitlines() if any(n in path for n in names)}


def snapshot(directories: list[str], namespace: str = "") -> dict[str, set[str]]:
    """What carries `directories` now, and what a network namespace has."""
    return {
        **(network(namespace) if namespace else {}),
        "processes": processes(directories),
        "mounts": _lines_with("/proc/self/mountinfo", directories),
        "sockets": _lines_with("/proc/net/unix", directories),
        "cgroups": _cgroups(directories),
        "files": {
            str(path) for directory in directories for path in sorted(Path(directory).rglob("*"))
        },
    }


def difference(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is there after and was not before, by kind; empty when nothing is."""
    found = {kind: after[kind] - before[kind] for kind in after}
    return {kind: new for kind, new in found.items() if new}


def _left(
    before: dict[str, set[str]], names: list[str], files: bool, namespace: str
) -> dict[str, set[str]]:
    found = difference(before, snapshot(names, namespace))
    if not files:
        found.pop("files", None)
    return found


@contextmanager
def none(*directories: Path, files: bool = True, namespace: str = "") -> Iterator[None]:
    """Fails when the body leaves anything behind that carries `directories`.

    What ends a moment later is no leak. `files` says whether files count; of a network
    `namespace`, by its name, everything does: taps, bridges, addresses, routes, rules.
    """
    names = [str(directory) for directory in directories]
    before = snapshot(names, namespace)
    yield
    deadline = time.monotonic() + _SETTLE_BOUND
    while left := _left(before, names, files, namespace):
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.1)


def drop_templates(directory: Path) -> None:
    """Remove the templates of a directory, with the processes that hold their memory."""
    for path in directory.glob("*/meta.json"):
        meta = json.loads(path.read_text())
        kill_and_wait(meta["holder"], meta["holder_started"], signal.SIGKILL, 5.0)
    shutil.rmtree(directory, ignore_errors=True)
