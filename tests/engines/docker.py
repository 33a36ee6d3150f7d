"""A dockerd of the tests' own, in its own network namespace."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.engines import leftovers
from tests.engines.commands import Result, Terminal, run, until
from tests.engines.network_namespace import NetworkNamespace, unique

DOCKER = "/usr/bin/docker"
IMAGE = "box"
_STOP_BOUND = 40


class Docker:
    """Debian's Docker with runv as its default runtime."""

    def __init__(
        self,
        directory: Path,
        runv: Path,
        archive: Path,
        *,
        name: str = "hypdk",
        configuration: dict[str, Any] | None = None,
        containerd: Path | None = None,
    ) -> None:
        """`configuration` is dockerd's, by default with containers that outlive it.

        `containerd` is the socket of one that runs already, and has runv alone.
        """
        self.directory = directory
        self.runv = runv
        self._containerd = containerd
        self.name = unique(name)
        self.namespace = NetworkNamespace(self.name)
        self.env = {
            "DOCKER_HOST": f"unix://{directory}/d.sock",
            "DOCKER_CONFIG": str(directory / "config"),
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_PROJECT_NAME": "hyper",
        }
        settings = {"live-restore": True} if configuration is None else configuration
        (directory / "daemon.json").write_text(json.dumps(settings))
        self._log = (directory / "dockerd.log").open("wb")
        self._process = self._start()
        try:
            self._wait()
            with archive.open("rb") as file:
                self.check("import", "-c", 'CMD ["sh"]', "-", IMAGE, stdin=file.read())
        except BaseException:
            self.close()
            raise
        self._links = self.namespace.links()
        self._mounts = self._own_mounts()

    def _start(self) -> subprocess.Popen[bytes]:
        paths = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        return subprocess.Popen(
            [
                *self.namespace.inside("dockerd", "--host", self.env["DOCKER_HOST"]),
                *(f"--{key}={self.directory}/{name}" for key, name in paths.items()),
                *self._runtime(),
                *(
                    "--cgroup-parent",
                    f"/{self.name}",
                    "--config-file",
                    f"{self.directory}/daemon.json",
                ),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _runtime(self) -> list[str]:
        if self._containerd is not None:
            return [f"--containerd={self._containerd}"]
        return ["--add-runtime", f"runv={self.runv}", "--default-runtime", "runv"]

    def _wait(self) -> None:
        until(lambda: self.docker("version").code == 0, "dockerd answers", 60)

    def restart(self, signum: int) -> None:
        """End dockerd, and its containerd with it, by a signal, and start it again."""
        self._end(signum)
        for file in (self.directory / "pid", self._containerd_pid):
            file.unlink(missing_ok=True)
        self._process = self._start()
        self._wait()

    def docker(self, *argv: str, stdin: bytes = b"", timeout: float = 90.0) -> Result:
        """Run `docker`."""
        return run(DOCKER, *argv, env=self.env, stdin=stdin, timeout=timeout)

    def check(self, *argv: str, stdin: bytes = b"", timeout: float = 90.0) -> str:
        """What a `docker` command that must not fail says."""
        return run(DOCKER, *argv, env=self.env, stdin=stdin, timeout=timeout, check=True).out

    def run(self, *argv: str, stdin: bytes = b"") -> Result:
        """`docker run --rm`; the image is `box`, unless `argv` has it already."""
        return self.docker("run", "--rm", *argv, stdin=stdin)

    def start(self, *argv: str) -> str:
        """`docker run -d`: the container's id."""
        return self.check("run", "-d", *argv).strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """What `docker inspect` tells."""
        found: dict[str, Any] = json.loads(self.check("inspect", name))[0]
        return found

    def state(self, name: str) -> dict[str, Any]:
        """The state of a container."""
        state: dict[str, Any] = self.inspect(name)["State"]
        return state

    def terminal(self, *argv: str) -> Terminal:
        """`docker` on a terminal."""
        return Terminal(DOCKER, *argv, env=self.env)

    def client(self, *argv: str) -> subprocess.Popen[bytes]:
        """`docker` on pipes."""
        return subprocess.Popen(
            [DOCKER, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.env},
        )

    def vmm(self, cid: str) -> int:
        """The pid of a container's QEMU."""
        state = self._sandbox(cid)
        return int(state["vmm_pid"])

    def sandbox(self, cid: str) -> int:
        """The pid of a container's sandbox process."""
        return int(self._sandbox(cid)["pid"])

    def _sandbox(self, cid: str) -> dict[str, Any]:
        full = self.inspect(cid)["Id"]
        path = next(self.directory.glob(f"exec/**/{full}/sandbox/state.json"))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def remove_all(self) -> None:
        """Remove what the last test left: containers, networks, volumes."""
        if ids := self.check("ps", "-aq").split():
            self.docker("rm", "-f", "-v", *ids)
        self.docker("network", "prune", "-f")
        self.docker("volume", "prune", "-f")

    def look(self) -> dict[str, object]:
        """What is left of containers."""
        return {
            "containers": self.check("ps", "-aq").split(),
            "processes": leftovers.vm_processes(self.name) | leftovers.vm_processes(self._exec),
            "groups": leftovers.groups(self.name),
            "links": self.namespace.links() - self._links,
            # That one is dockerd's own, for `--network host`.
            "mounts": {m for m in self._own_mounts() - self._mounts if "/netns/default" not in m},
            "files": [str(p) for p in self.directory.glob("exec/runtime-runv/*/*")],
        }

    @property
    def _exec(self) -> str:
        return f"{self.directory}/exec"

    def _own_mounts(self) -> set[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return {line for line in lines if str(self.directory) in line}

    def close(self) -> None:
        """Stop dockerd, and remove what it made on the host."""
        if self.docker("version").code == 0:
            self.remove_all()
        self._end(signal.SIGTERM)
        self._end_containerd()
        leftovers.kill_all(self._exec)
        self._log.close()
        self.namespace.close()
        leftovers.remove_groups(self.name)
        for line in self._own_mounts():
            run("umount", "-l", line.split()[4])

    @property
    def _containerd_pid(self) -> Path:
        return self.directory / "exec" / "containerd" / "containerd.pid"

    def _end_containerd(self) -> None:
        """End the containerd that a killed dockerd left."""
        try:
            pid = int(self._containerd_pid.read_text())
            if str(self.directory) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGTERM)
        except FileNotFoundError:
            pass

    def _end(self, signum: int) -> None:
        self._process.send_signal(signum)
        try:
            self._process.wait(_STOP_BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
