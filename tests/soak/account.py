"""What there is on the host and in hyperd's books, and whether it is what the living pods need."""

import json
import os
import re
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

from hypercontainer.errors import HyperError
from hypercontainer.sandbox import read_state
from tests.e2e import leaks
from tests.e2e.hyperd_process import Hyperd

_SETTLE_BOUND = 90.0
_NAME = re.compile(r"\0-name\0w\d+-\d+,")
_LIVE = ("running", "paused")
_MOVING = ("starting", "restarting", "removing")

Containers = list[dict[str, Any]]


def settled(hyperd: Hyperd) -> Containers:
    """All containers as inspected, once none is on its way from one state to another."""
    end = time.monotonic() + _SETTLE_BOUND
    while True:
        try:
            listed = hyperd.client.list_containers(all=True)
            found = [hyperd.client.inspect_container(c["Id"]) for c in listed]
        except HyperError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)
            continue
        if not any(c["State"]["Status"] in _MOVING for c in found) or time.monotonic() > end:
            return [dict(container) for container in found]
        time.sleep(0.3)


def compare(hyperd: Hyperd, containers: Containers) -> list[str]:
    """What is wrong: too much, missing, or there twice."""
    end = time.monotonic() + 20
    while (problems := _compare(hyperd, containers)) and time.monotonic() < end:
        time.sleep(0.5)
    return problems


def _compare(hyperd: Hyperd, containers: Containers) -> list[str]:
    live = [c for c in containers if c["State"]["Status"] in _LIVE]
    pods = sorted({c["Pod"] if "Pod" in c else c["Name"].removeprefix("/") for c in live})
    ids = sorted(c["Id"] for c in containers)
    sandboxes = {p.name: read_state(p) for p in (hyperd.state / "sandboxes").iterdir()}
    alive = [s for s in sandboxes.values() if s is not None and s["alive"]]
    emulators = sorted(int(s["vmm_pid"]) for s in alive)
    directories = _names(hyperd.root / "containers")
    volumes = {m["Name"] for c in containers for m in c["Mounts"] if m.get("Name")}
    stored = {p.name for p in (hyperd.root / "volumes").iterdir()}
    checks = [
        ("containers and rows of the database", ids, _rows(hyperd)),
        ("containers and directories of them", sorted({*ids, *directories}), ids),
        ("live pods and sandboxes", pods, sorted(sandboxes)),
        ("sandboxes and those that live", sorted(sandboxes), sorted(s["id"] for s in alive)),
        ("QEMUs of sandboxes and those that run", emulators, _emulators()),
        ("anonymous volumes, used and stored", _anonymous(volumes), _anonymous(stored)),
    ]
    return [
        f"{what}: {_differ(wanted, found)}" for what, wanted, found in checks if wanted != found
    ]


def _anonymous(names: set[str]) -> list[str]:
    return sorted(name for name in names if re.fullmatch("[0-9a-f]{64}", name) or "." in name)


def _differ(wanted: list[Any], found: list[Any]) -> str:
    missing = [item for item in wanted if item not in found]
    more = [item for item in found if item not in wanted]
    return f"missing {missing}, too many {more}, {len(wanted)} against {len(found)}"


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _rows(hyperd: Hyperd) -> list[str]:
    with sqlite3.connect(f"file:{hyperd.root}/hyperd.db?mode=ro", uri=True) as database:
        return sorted(row[0] for row in database.execute("SELECT id FROM containers"))


def _emulators() -> list[int]:
    """The pids of the QEMUs in this network namespace with a name such as workers give."""
    own = os.readlink("/proc/self/ns/net")
    return sorted(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_emulator(entry, own)
    )


def _is_emulator(entry: Path, namespace: str) -> bool:
    try:
        arguments = (entry / "cmdline").read_bytes().decode(errors="replace")
        return bool(_NAME.search(arguments)) and os.readlink(entry / "ns/net") == namespace
    except OSError:
        return False


def everything(hyperd: Hyperd) -> dict[str, set[str]]:
    """All that carries this hyperd's name, and the network of its namespace."""
    directories = [str(hyperd.state / "sandboxes"), str(hyperd.root / "containers")]
    return {**leaks.snapshot(directories), **network(), "volumes": _volumes(hyperd)}


def _volumes(hyperd: Hyperd) -> set[str]:
    return set(_names(hyperd.root / "volumes")) if (hyperd.root / "volumes").is_dir() else set()


def network() -> dict[str, set[str]]:
    """Interfaces, addresses, routes and rules of this network namespace."""
    links = json.loads(_output("ip", "-j", "address"))
    return {
        "interfaces": {link["ifname"] for link in links},
        "addresses": {
            f"{link['ifname']} {address['local']}/{address['prefixlen']}"
            for link in links
            for address in link["addr_info"]
            if address["family"] == "inet"
        },
        "routes": set(_output("ip", "route").splitlines()),
        "rules": set(_output("nft", "list", "ruleset").splitlines()),
    }


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def difference(hyperd: Hyperd, before: dict[str, set[str]]) -> list[str]:
    """What is there now and was not before the first pod."""
    end = time.monotonic() + 20
    while left := leaks.difference(before, everything(hyperd)):
        if time.monotonic() > end:
            return [f"left behind: {kind}: {sorted(what)}" for kind, what in left.items()]
        time.sleep(0.5)
    return []
