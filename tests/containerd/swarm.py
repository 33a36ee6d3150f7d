"""A swarm of two dockerds: each is a node in a network namespace of its own, joined by a link."""

import json
import os
import signal
from pathlib import Path
from typing import NamedTuple

from tests.engines import leftovers
from tests.engines.commands import run, until
from tests.engines.docker import Docker

_ADDRESSES = ("10.97.0.1", "10.97.0.2")
# A node that is not heard of counts as lost after some 15 s; then VMs start, all at once.
_LOST_BOUND = 240.0


class Task(NamedTuple):
    """A task of a service that is meant to run: the id of its node and its state."""

    node: str
    state: str


class Swarm:
    """Two nodes: `nodes[0]` is the manager."""

    def __init__(self, directory: Path, runv: Path, archive: Path) -> None:
        self.nodes: list[Docker] = []
        try:
            for number in range(2):
                place = directory / f"node{number}"
                place.mkdir()
                self.nodes.append(
                    Docker(place, runv, archive, name=f"hypsw{number}x", configuration={})
                )
            self._join_namespaces()
            self._join_swarm()
        except BaseException:
            self.close()
            raise
        self.ids = [node.check("info", "-f", "{{.Swarm.NodeID}}").strip() for node in self.nodes]

    def _join_namespaces(self) -> None:
        first, second = (node.namespace.name for node in self.nodes)
        peer = ("peer", "name", "node0", "netns", second)
        run("ip", "-n", first, "link", "add", "node1", "type", "veth", *peer, check=True)
        ends = zip((first, second), ("node1", "node0"), _ADDRESSES, strict=True)
        for namespace, link, address in ends:
            ip = ("ip", "-n", namespace)
            run(*ip, "address", "add", f"{address}/24", "dev", link, check=True)
            run(*ip, "link", "set", link, "up", check=True)

    def _join_swarm(self) -> None:
        manager, worker = self.nodes
        manager.check("swarm", "init", "--advertise-addr", _ADDRESSES[0])
        token = manager.check("swarm", "join-token", "-q", "worker").strip()
        own = ("--advertise-addr", _ADDRESSES[1])
        worker.check("swarm", "join", *own, "--token", token, f"{_ADDRESSES[0]}:2377")

    def service(self, name: str, replicas: int, *options: str) -> None:
        """Start a service of the tests' image without waiting for its tasks."""
        create = ("service", "create", "-d", "--no-resolve-image", "--name", name)
        own = ("--replicas", str(replicas), "--stop-grace-period", "2s")
        self.nodes[0].check(*create, *own, *options)

    def tasks(self, name: str) -> list[Task]:
        """The tasks of a service that are meant to run."""
        ids = self.nodes[0].check("service", "ps", "-q", "-f", "desired-state=running", name)
        if not ids.split():
            return []
        found = json.loads(self.nodes[0].check("inspect", "--type", "task", *ids.split()))
        return [Task(task.get("NodeID", ""), task["Status"]["State"]) for task in found]

    def settled(self, name: str, count: int, *nodes: str) -> None:
        """Wait until a service has so many tasks, all running, on no other than these nodes."""

        def reached() -> bool:
            tasks = self.tasks(name)
            states = {task.state for task in tasks}
            on = {task.node for task in tasks}
            return len(tasks) == count and states == {"running"} and on == set(nodes)

        try:
            until(reached, f"{count} tasks of {name} on {nodes}", _LOST_BOUND)
        except AssertionError as error:
            said = self.nodes[0].docker("service", "ps", "--no-trunc", name).out
            raise AssertionError(f"{error}\n{said}") from None

    def containers(self, number: int, service: str) -> list[str]:
        """The containers of a service on a node."""
        label = f"label=com.docker.swarm.service.name={service}"
        return self.nodes[number].check("ps", "-q", "--no-trunc", "-f", label).split()

    def lose(self, number: int) -> None:
        """A node's machine dies: every process of it, at once."""
        node = self.nodes[number]
        leftovers.kill_all(str(node.directory))
        for pid in leftovers.vm_processes(node.name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        """End the nodes."""
        for node in reversed(self.nodes):
            node.docker("swarm", "leave", "--force")
            node.close()
