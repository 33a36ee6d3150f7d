"""A hyperd for measurements, with a root of its own and the demo's image."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
START_BOUND = 60.0
COMMAND_BOUND = 120.0


class Hyper:
    """The command line, talking to one daemon."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.socket = directory / "hyper.sock"
        self.environment = {**os.environ, "HYPER_HOST": f"unix://{self.socket}"}
        self.pid = 0

    def __call__(self, *arguments: str) -> str:
        """Run `hyper` and return its output. Raises CalledProcessError."""
        done = subprocess.run(
            [BIN / "hyper", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=COMMAND_BOUND,
            check=True,
            text=True,
        )
        return done.stdout

    def timed(self, *arguments: str) -> float:
        """Run `hyper`; the seconds it took."""
        begin = time.perf_counter()
        self(*arguments)
        return time.perf_counter() - begin


@contextmanager
def hyperd(template: str = "auto", insecure: str = "", merge: str = "off") -> Iterator[Hyper]:
    """A running daemon that has the image `busybox`; it ends with the context.

    With `template` "off" every VM boots; the others may be clones of a booted one. `insecure`
    names a registry that speaks no TLS; `merge` is MemoryMerge.
    """
    with tempfile.TemporaryDirectory(prefix="hyper-bench.") as name:
        directory = Path(name)
        hyper = Hyper(directory)
        (directory / "config").write_text(
            f"Template = {template}\nBridge = none\nInsecure_registry = {insecure}\n"
            f"MemoryMerge = {merge}\n"
        )
        with (directory / "hyperd.log").open("wb") as log:
            daemon = subprocess.Popen(
                [
                    *(BIN / "hyperd", "--nondaemon", "--config", str(directory / "config")),
                    *("--root", str(hyper.root), "--socket", str(hyper.socket)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        hyper.pid = daemon.pid
        try:
            _wait_for(hyper.socket, daemon, directory / "hyperd.log")
            archive = directory / "busybox.tar"
            subprocess.run(
                [sys.executable, "-m", "hypercontainer.images.busybox", str(archive)],
                check=True,
                timeout=COMMAND_BOUND,
            )
            hyper("load", "-i", str(archive))
            yield hyper
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)


def _wait_for(socket: Path, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_BOUND
    while not socket.exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"hyperd did not start:\n{log.read_text()}")
        time.sleep(0.02)
