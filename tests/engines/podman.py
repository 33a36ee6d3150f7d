"""Podman with directories of the tests' own, in its own network namespace."""

import json
import os
from pathlib import Path
from typing import Any

from tests.engines import leftovers
from tests.engines.commands import Result, Terminal, run
from tests.engines.network_namespace import NetworkNamespace, unique

IMAGE = "localhost/box"
_CONFIGURATION = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{directory}/tmp"
[network]
network_backend = "cni"
network_config_dir = "{directory}/net"
[containers]
log_driver = "k8s-file"
"""


class Podman:
    """Debian's Podman with runv as its runtime."""

    def __init__(self, directory: Path, runv: Path, archive: Path) -> None:
        self.directory = directory
        self.name = unique("hyppm")
        self.namespace = NetworkNamespace(self.name)
        configuration = directory / "containers.conf"
        configuration.write_text(_CONFIGURATION.format(directory=directory))
        self.env = {"CONTAINERS_CONF": str(configuration), "TMPDIR": str(directory)}
        self._podman = self.namespace.inside(
            *("podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run"),
            *("--runtime", str(runv)),
        )
        try:
            self.check("import", str(archive), IMAGE)
            # The first container makes what all need: locks, a network, the image of pods.
            self.check("run", "--rm", *self.group, IMAGE, "true")
        except BaseException:
            self.close()
            raise
        self._links = self.namespace.links()
        self._mounts = self._own_mounts()

    @property
    def group(self) -> tuple[str, str]:
        """The option that puts a container's control group below the tests' own."""
        return "--cgroup-parent", f"/{self.name}"

    def podman(self, *argv: str, stdin: bytes = b"", timeout: float = 90.0) -> Result:
        """Run `podman`."""
        return run(*self._podman, *argv, env=self.env, stdin=stdin, timeout=timeout)

    def check(self, *argv: str, stdin: bytes = b"") -> str:
        """What a `podman` command that must not fail says."""
        return run(*self._podman, *argv, env=self.env, stdin=stdin, check=True).out

    def run(self, *argv: str, stdin: bytes = b"") -> Result:
        """`podman run --rm`."""
        return self.podman("run", "--rm", *self.group, *argv, stdin=stdin)

    def start(self, *argv: str) -> str:
        """`podman run -d`: the container's id."""
        return self.check("run", "-d", *self.group, *argv).strip()

    def terminal(self, *argv: str) -> Terminal:
        """`podman` on a terminal."""
        return Terminal(*self._podman, *argv, env=self.env)

    def state(self, name: str) -> dict[str, Any]:
        """The state of a container."""
        state: dict[str, Any] = json.loads(self.check("inspect", name))[0]["State"]
        return state

    def remove_all(self) -> None:
        """Remove what the last test left."""
        self.podman("pod", "rm", "-a", "-f", "-t", "0")
        self.podman("rm", "-a", "-f", "-t", "0")
        self.podman("volume", "prune", "-f")

    def look(self) -> dict[str, object]:
        """What is left of containers."""
        processes = leftovers.vm_processes(self.name)
        processes |= leftovers.vm_processes(str(self.directory))
        waiting = [pid for pid in processes if leftovers.waits_for_keeper(pid)]
        return {
            "containers": self.check("ps", "-aq").split(),
            "processes": {p: said for p, said in processes.items() if p not in waiting},
            # The groups of pods and of conmon are Podman's own.
            "groups": {g for g in leftovers.groups(self.name) if "/libpod-" in g},
            "links": self.namespace.links() - self._links,
            "mounts": self._own_mounts() - self._mounts,
            "files": self._state(),
        }

    def _state(self) -> list[str]:
        """Directories in runv's default root of containers that are this Podman's."""
        found = []
        for path in Path("/run/runv").glob("*/container.json"):
            if str(self.directory) in path.read_text():
                found.append(str(path))
        return found

    def _own_mounts(self) -> set[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return {line for line in lines if str(self.directory) in line}

    def close(self) -> None:
        """Remove everything."""
        self.remove_all()
        self.namespace.close()
        leftovers.remove_groups(self.name)
        for line in sorted(self._own_mounts(), key=len, reverse=True):
            run("umount", "-l", line.split()[4])
        for path in self.directory.glob("root/overlay/*"):
            if os.path.ismount(path):
                run("umount", "-l", str(path))
