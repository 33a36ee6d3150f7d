"""A runv-containerd of the tests' own, driven by `ctr` and by gRPC."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from tests.containerd.shim_client import Shim
from tests.engines import leftovers
from tests.engines.commands import Result, Terminal, run, until
from tests.engines.needs import need
from tests.engines.network_namespace import unique

PROGRAM = Path(sys.executable).parent / "runv-containerd"
_START_BOUND = 90.0


class RunvContainerd:
    """The daemon, its directories and its clients."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.log = directory / "daemon.log"
        # Short, as it becomes part of sockets' paths.
        self.state = Path(tempfile.mkdtemp(prefix="rc-", dir="/run"))
        self.socket = self.state / "containerd.sock"
        self.name = unique("hyprc")
        self.process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    def start(self, *flags: str) -> None:
        """Start it, and wait until it answers."""
        paths = (f"--root={self.root}", f"--state-dir={self.state}")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(PROGRAM), *paths, "--debug", *flags], stdin=subprocess.DEVNULL, stderr=log
            )
        until(self._answers, "runv-containerd answers", _START_BOUND)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return self.socket.exists() and self.ctr("version").code == 0

    def end(self, signum: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(signum)
        return process.wait(60)

    def ctr(self, *argv: str, namespace: str = "default", stdin: bytes = b"") -> Result:
        """Run `ctr`."""
        return run(*self.command(*argv, namespace=namespace), stdin=stdin)

    def command(self, *argv: str, namespace: str = "default") -> list[str]:
        """A command line of `ctr`."""
        return ["ctr", "--address", str(self.socket), "-n", namespace, *argv]

    def check(self, *argv: str, namespace: str = "default", stdin: bytes = b"") -> str:
        """What a `ctr` command that must not fail says."""
        return run(*self.command(*argv, namespace=namespace), stdin=stdin, check=True).out

    def terminal(self, *argv: str) -> Terminal:
        """`ctr` on a terminal."""
        return Terminal(*self.command(*argv))

    def new_id(self) -> str:
        """An id for a container that nobody else on this host uses."""
        return f"{self.name}-{next(self._numbers)}"

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A connection of gRPC."""
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            yield channel

    def files(self) -> list[str]:
        """What is in its part of the image store, and of tasks in its state directory."""
        images = self.root / "images"
        content = [p for p in (images / "content").rglob("*") if p.name != "ingest"]
        snapshots = list((images / "snapshots").iterdir())
        bundles = list(self.state.glob("io.containerd.runtime.v2.task/*/*"))
        return [str(path) for path in (*content, *snapshots, *bundles)]

    def look(self) -> dict[str, object]:
        """What is left of containers."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return {
            "processes": leftovers.vm_processes(self.name),
            "shims": leftovers.shims(str(self.state)),
            "bundles": list(self.state.glob("io.containerd.runtime.v2.task/*/*")),
            "records": list(Path("/run/containerd/runv").glob(f"*/{self.name}*")),
            "mounts": [line for line in mounts if f"{self.state}" in line],
        }

    def shims(self) -> list[int]:
        """The shims of its tasks."""
        found = []
        for file in self.state.glob("io.containerd.runtime.v2.task/*/*/address"):
            shim = Shim(file.parent)
            found.append(shim.pid(file.parent.name))
            shim.close()
        return found

    def close(self) -> None:
        """Kill it, and what it left."""
        if self.process is not None:
            self.end(signal.SIGKILL)
        leftovers.kill_all(str(self.state))
        for entry in leftovers.vm_processes(self.name):
            os.kill(entry, signal.SIGKILL)
        leftovers.remove_groups(self.name)
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if str(self.state) in line:
                run("umount", "-l", line.split()[4])
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def running(directory: Path, *flags: str) -> Iterator[RunvContainerd]:
    """One that runs; skips the test where it can't."""
    need("ctr")
    daemon = RunvContainerd(directory)
    try:
        daemon.start(*flags)
        yield daemon
    finally:
        daemon.close()
