"""A hyperd as a process, on directories of its own, with an image made of this host's busybox."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from hypercontainer.client import Client
from hypercontainer.errors import HyperError
from hypercontainer.sandbox import read_state
from tests.e2e.engine import SLOWNESS

COMMAND = [sys.executable, "-m", "hypercontainer.daemon.main"]
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
_GROUP = b"root:x:0:\nuser:x:1000:\nmail:x:8:user\n"


def wait_until(condition: Callable[[], bool], what: str, bound: float = 20.0) -> None:
    """Poll for something that has to come true in `bound` seconds on a machine that is real."""
    end = time.monotonic() + bound * SLOWNESS
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {bound:g} s"
        time.sleep(0.05)


def busybox_archive(path: Path) -> Path:
    """A `docker save` archive of busybox:latest: the static busybox of this host."""
    binary = shutil.which("busybox")
    assert binary, "busybox is needed: apt-get install busybox-static"
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in ("bin", "etc", "root", "tmp", "home", "home/user"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        _file(tar, "bin/busybox", Path(binary).read_bytes(), 0o755)
        applets = subprocess.run(
            [binary, "--list"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.split()
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        _file(tar, "etc/passwd", _PASSWD, 0o644)
        _file(tar, "etc/group", _GROUP, 0o644)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"from": "image"}},
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + sha256(layer.getvalue()).hexdigest()],
            },
        }
    ).encode()
    name = sha256(config).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        _file(tar, name, config, 0o644)
        _file(tar, "layer.tar", layer.getvalue(), 0o644)
        _file(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)
    return path


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


class Hyperd:
    """A hyperd in the foreground, its directories and its client."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.config = directory / "config"
        self.log = directory / "log"
        self.config.write_text("")
        self.state = Path(tempfile.mkdtemp(prefix="hyper-test-", dir="/run"))
        self.socket = self.state / "api.sock"
        # The network of the machine is left alone, unless the test has one of its own.
        self.bridge = "none"
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> Client:
        """A client of it."""
        return Client(f"unix://{self.socket}")

    def command(self, *flags: str) -> list[str]:
        """Its command line."""
        paths = (f"--root={self.root}", f"--state={self.state}", f"--socket={self.socket}")
        return [
            *COMMAND,
            f"--config={self.config}",
            "--debug",
            f"--bridge={self.bridge}",
            *paths,
            *flags,
        ]

    def start(self, *flags: str, bound: float = 20.0) -> None:
        """Start it and wait until it answers, `bound` seconds on a machine that is real."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command("--nondaemon", *flags)],
                stderr=log,
                env={**os.environ, **self.environment},
            )
        wait_until(self._answers, "hyperd's answer", bound)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            self.client.ping()
        except HyperError:
            return False
        return True

    def end(self, signum: int = signal.SIGTERM) -> int:
        """End it by a signal; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signum)
        code = self.process.wait(timeout=20 * SLOWNESS)
        self.process = None
        return code

    def load_image(self) -> None:
        """Load busybox:latest."""
        archive = busybox_archive(self.root.parent / "busybox.tar")
        with archive.open("rb") as file:
            for _ in self.client.load(file):
                pass

    def create(self, *command: str, **keys: Any) -> str:
        """Create a container of busybox; returns its id. Keys of the pod go with `pod_`."""
        pod = {key[4:]: keys.pop(key) for key in list(keys) if key.startswith("pod_")}
        container = {"image": "busybox", "command": list(command), **keys}
        return self.client.create_pod({"containers": [container], **pod})["Containers"][0]

    def run(self, *command: str, **keys: Any) -> str:
        """Create and start a container; returns its id."""
        container = self.create(*command, **keys)
        self.client.start_container(container)
        return container

    def state_of(self, container: str) -> dict[str, Any]:
        """The State object of inspect."""
        return dict(self.client.inspect_container(container)["State"])

    def vm_of(self, container: str) -> dict[str, Any]:
        """The VM object of inspect."""
        return dict(self.client.inspect_container(container)["VM"])

    def output_of(self, container: str, **options: Any) -> str:
        """The log of a container without a terminal, both streams."""
        from hypercontainer.client.streams import Demultiplexer

        frames = Demultiplexer()
        parts = [
            bytes(part)
            for chunk in self.client.logs(container, **options)
            for _, part in frames.feed(chunk)
        ]
        return b"".join(parts).decode()

    def execute(self, container: str, *command: str, **options: Any) -> tuple[int, str]:
        """Run a process in a container; its exit code and output."""
        exec_id = self.client.create_exec(container, command, **options)
        with self.client.start_exec(container, exec_id) as stream:
            output = b"".join(data for _, data in stream.output(tty=options.get("tty", False)))
        return self.client.wait(container, exec_id), output.decode()

    def leftovers(self, *running: str) -> list[str]:
        """What is there although only those pods run: sandboxes and containers' directories."""
        found = (self.state / "sandboxes").glob("*")
        sandboxes = [path for path in found if path.name not in running]
        rows = {c["Id"] for c in self.client.list_containers(all=True)}
        directories = [p for p in (self.root / "containers").glob("*") if p.name not in rows]
        processes = [
            line
            for line in subprocess.run(
                ["ps", "-eo", "pid,args", "-ww"], capture_output=True, text=True, timeout=10
            ).stdout.splitlines()
            if str(self.state / "sandboxes") in line
            and not any(f"{self.state}/sandboxes/{name}" in line for name in running)
        ]
        return [*map(str, sandboxes), *map(str, directories), *processes]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it with an image for the body, and remove everything after it."""
        try:
            self.start()
            self.load_image()
            yield
        finally:
            self.close()

    def nothing_left(self) -> None:
        """Assert that what ended was cleared away."""
        wait_until(lambda: not self.leftovers(), f"nothing left but {self.leftovers()}")

    def nothing_left_but(self, *running: str) -> None:
        """Assert that only those pods have left something."""
        what = f"nothing left but {self.leftovers(*running)}"
        wait_until(lambda: not self.leftovers(*running), what)

    def close(self) -> None:
        """Remove everything, and show the log's errors."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
        for directory in (self.state / "sandboxes").glob("*"):
            sandbox = read_state(directory)
            if sandbox is not None and sandbox["alive"]:
                os.kill(sandbox["pid"], signal.SIGKILL)
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)
