"""A containerd of the tests' own, driven by `ctr`."""

import itertools
import os
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.engines import leftovers
from tests.engines.commands import Result, Terminal, run, until
from tests.engines.network_namespace import unique

_CONFIGURATION = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{directory}/c.sock"
"""


class Runtime(NamedTuple):
    """How `ctr run` chooses a runtime: its options, where its shim is, where its records are."""

    options: tuple[str, ...]
    path: str
    records: str


def runc_shim(runv: Path) -> Runtime:
    """runc's shim, with runv as its runc."""
    return Runtime(("--runc-binary", str(runv)), "", "/run/containerd/runc")


def runv_shim(runv: Path) -> Runtime:
    """runv's own shim, beside runv."""
    name = "io.containerd.runv.v2"
    return Runtime(("--runtime", name), str(runv.parent), "/run/containerd/runv")


class Containerd:
    """Debian's containerd with one runtime."""

    def __init__(self, directory: Path, runtime: Runtime, tree: Path) -> None:
        self.directory = directory
        self.name = unique("hypcd")
        self._runtime = runtime
        self._tree = tree
        self._numbers = itertools.count()
        (directory / "config.toml").write_text(_CONFIGURATION.format(directory=directory))
        self._log = (directory / "containerd.log").open("wb")
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start containerd."""
        self._process = subprocess.Popen(
            ["containerd", "--config", f"{self.directory}/config.toml"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "PATH": f"{self._runtime.path}:{os.environ['PATH']}".lstrip(":")},
            start_new_session=True,
        )
        try:
            until(lambda: self.ctr("version").code == 0, "containerd answers", 60)
        except BaseException:
            self.close()
            raise

    def kill_daemon(self) -> None:
        """Kill containerd, and nothing else."""
        self._process.kill()
        self._process.wait(10)

    def bundle(self, cid: str) -> Path:
        """A container's bundle."""
        return self.directory / "state" / "io.containerd.runtime.v2.task" / "default" / cid

    def _ctr(self, *argv: str) -> list[str]:
        return ["ctr", "--address", f"{self.directory}/c.sock", "-n", "default", *argv]

    def ctr(self, *argv: str, stdin: bytes = b"") -> Result:
        """Run `ctr`."""
        return run(*self._ctr(*argv), stdin=stdin)

    def check(self, *argv: str) -> str:
        """What a `ctr` command that must not fail says."""
        return run(*self._ctr(*argv), check=True).out

    def terminal(self, *argv: str) -> Terminal:
        """`ctr` on a terminal."""
        return Terminal(*self._ctr(*argv))

    def new_id(self) -> str:
        """An id for a container."""
        return f"{self.name}-{next(self._numbers)}"

    def run_arguments(self, cid: str, *options: str) -> tuple[str, ...]:
        """`run` with the runtime, the tests' root directory and their control group."""
        group = ("--cgroup", f"/{self.name}/{cid}")
        return (
            *("run", *self._runtime.options, *group, *options),
            *("--rootfs", str(self._tree), cid),
        )

    def run(self, *argv: str, options: tuple[str, ...] = (), stdin: bytes = b"") -> Result:
        """Run a command in a container that is removed afterwards."""
        arguments = self.run_arguments(self.new_id(), "--rm", *options)
        return self.ctr(*arguments, *argv, stdin=stdin)

    def start(self, *argv: str, options: tuple[str, ...] = ()) -> str:
        """Run a container in the background; returns its id."""
        cid = self.new_id()
        self.check(*self.run_arguments(cid, "-d", *options), *argv)
        return cid

    def remove(self, cid: str) -> None:
        """Kill and remove a container."""
        self.ctr("task", "kill", "-s", "KILL", cid)
        until(lambda: self.ctr("task", "rm", "-f", cid).code == 0 or not self.has_task(cid), "rm")
        self.check("container", "rm", cid)

    def has_task(self, cid: str) -> bool:
        """Whether the container has a task."""
        return cid in self.check("task", "ls")

    def remove_all(self) -> None:
        """Remove what the last test left."""
        for cid in self.check("container", "ls", "-q").split():
            self.remove(cid)

    def look(self) -> dict[str, object]:
        """What is left of containers."""
        return {
            "containers": self.check("container", "ls", "-q").split(),
            "processes": leftovers.vm_processes(self.name),
            "groups": leftovers.groups(self.name),
            "shims": leftovers.shims(f"{self.directory}/c.sock"),
            "files": list(Path(f"{self._runtime.records}/default").glob(f"{self.name}*")),
            "mounts": {
                line
                for line in Path("/proc/self/mountinfo").read_text().splitlines()
                if str(self.directory) in line
            },
        }

    def close(self) -> None:
        """Stop containerd."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        leftovers.kill_all(str(self.directory))
        self._log.close()
        leftovers.remove_groups(self.name)
