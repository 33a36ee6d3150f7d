"""What there is on the host and in hyperd's books, and whether it is what the living pods need."""

import json
import os
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

from hypercontainer.errors import HyperError
from hypercontainer.sandbox import read_state
from tests.e2e import leaks
from tests.e2e.hyperd_process import Hyperd

_SETTLE_BOUND = 90.0
_NAME = re.compile(r"\0-name\0(w\d+-\d+|ready),")
_RULE = re.compile(r"tcp dport (\d+) dnat ip to ")
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
    ports = sorted({port for c in live for port in _ports(c)})
    # One that left its networks while it was stopped has no address that a rule could name.
    ruled = sorted({port for c in live if _cards(c) for port in _ports(c)})
    cards = [card for c in live for card in _cards(c)]
    rules = "\n".join(leaks.network()["rules"])
    volumes = {m["Name"] for c in containers for m in c["Mounts"] if m.get("Name")}
    stored = {p.name for p in (hyperd.root / "volumes").iterdir()}
    checks = [
        ("containers and rows of the database", ids, _rows(hyperd)),
        ("containers and directories of them", sorted({*ids, *directories}), ids),
        ("live pods and sandboxes", pods, sorted(sandboxes)),
        ("sandboxes and those that live", sorted(sandboxes), sorted(s["id"] for s in alive)),
        ("QEMUs of sandboxes and those that run", emulators, _emulators(emulators)),
        ("published ports and rules", ruled, sorted(map(int, _RULE.findall(rules)))),
        ("published ports and sockets", ports, leaks.listening()),
        (
            "cards and taps",
            len(cards),
            sum(i.startswith("hyt-") for i in leaks.network()["interfaces"]),
        ),
        ("addresses, each once", sorted(set(cards)), sorted(cards)),
        ("addresses and rows", sorted(cards), _addresses(hyperd)),
        ("anonymous volumes, used and stored", _anonymous(volumes), _anonymous(stored)),
    ]
    return [
        f"{what}: {_differ(wanted, found)}" for what, wanted, found in checks if wanted != found
    ]


def _ports(container: dict[str, Any]) -> list[int]:
    published = container["NetworkSettings"].get("Ports") or {}
    return [int(one["HostPort"]) for bound in published.values() for one in bound or []]


def _cards(container: dict[str, Any]) -> list[str]:
    networks = container["NetworkSettings"].get("Networks") or {}
    return [str(one["IPAddress"]) for one in networks.values() if one.get("IPAddress")]


def _addresses(hyperd: Hyperd) -> list[str]:
    with sqlite3.connect(f"file:{hyperd.root}/hyperd.db?mode=ro", uri=True) as database:
        rows = [json.loads(row[0]) for row in database.execute("SELECT data FROM endpoints")]
    return sorted(str(row["ipv4"]) for row in rows if row["active"])


def _anonymous(names: set[str]) -> list[str]:
    return sorted(name for name in names if re.fullmatch("[0-9a-f]{64}", name) or "." in name)


def _differ(wanted: Any, found: Any) -> str:
    if not isinstance(wanted, list):
        return f"{wanted} against {found}"
    missing = [item for item in wanted if item not in found]
    more = [item for item in found if item not in wanted]
    return f"missing {missing}, too many {more}, {len(wanted)} against {len(found)}"


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _rows(hyperd: Hyperd) -> list[str]:
    with sqlite3.connect(f"file:{hyperd.root}/hyperd.db?mode=ro", uri=True) as database:
        return sorted(row[0] for row in database.execute("SELECT id FROM containers"))


def _emulators(wanted: list[int]) -> list[int]:
    """The pids of the QEMUs in this network namespace but those that wait for a pod."""
    own = os.readlink("/proc/self/ns/net")
    found = {
        int(entry.name): name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (name := _emulator_name(entry, own))
    }
    return sorted(pid for pid, name in found.items() if name != "ready" or pid in wanted)


def _emulator_name(entry: Path, namespace: str) -> str:
    """What a QEMU is called; "" for other processes and those of other namespaces."""
    try:
        match = _NAME.search((entry / "cmdline").read_bytes().decode(errors="replace"))
        return match[1] if match and os.readlink(entry / "ns/net") == namespace else ""
    except OSError:
        return ""


def warm_up(hyperd: Hyperd) -> None:
    """Have hyperd make what it keeps once it has been needed: a bridge, and a table of rules."""
    ports = [{"containerPort": 80}]
    hyperd.run("true", name="w0-0", pod_network="bridge", pod_portmappings=ports)
    hyperd.client.remove_container("w0-0", force=True)
    hyperd.nothing_left()


def everything(hyperd: Hyperd) -> dict[str, set[str]]:
    """All that carries this hyperd's name, and the network of its namespace."""
    directories = [str(hyperd.state / "sandboxes"), str(hyperd.root / "containers")]
    return {**leaks.snapshot(directories), **leaks.network(), "volumes": _volumes(hyperd)}


def _volumes(hyperd: Hyperd) -> set[str]:
    return set(_names(hyperd.root / "volumes")) if (hyperd.root / "volumes").is_dir() else set()


def difference(hyperd: Hyperd, before: dict[str, set[str]]) -> list[str]:
    """What is there now and was not before the first pod."""
    end = time.monotonic() + 20
    while left := leaks.difference(before, everything(hyperd)):
        if time.monotonic() > end:
            return [f"left behind: {kind}: {sorted(what)}" for kind, what in left.items()]
        time.sleep(0.5)
    return []
