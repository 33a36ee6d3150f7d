"""A hyperd of the tests' own with busybox in it, for the tests of `hyper`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import BOUND, Hyper, until


@pytest.fixture(scope="session")
def hyper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hyper]:
    """`hyper` for a hyperd that has nothing but busybox."""
    if os.geteuid() != 0:
        pytest.skip("hyperd needs root")
    base = tmp_path_factory.mktemp("hyperd")
    hyper = Hyper(base / "hyper.sock")
    log = base / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "hypercontainer.daemon.main", "--nondaemon"),
                *("--root", str(base / "root"), "--state", str(base / "state")),
                *("--socket", str(hyper.socket)),
            ],
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    try:
        until(lambda: hyper("version").returncode == 0 or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        _load_busybox(hyper, base)
        yield hyper
    finally:
        for container in hyper("list", "-aq").stdout.decode().split():
            hyper("rm", "-f", container)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(BOUND)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(BOUND)


def _load_busybox(hyper: Hyper, base: Path) -> None:
    archive = base / "busybox.tar"
    subprocess.run(
        [sys.executable, "-m", "hypercontainer.images.busybox", str(archive)],
        timeout=BOUND,
        check=True,
    )
    done = hyper("load", "-i", str(archive))
    assert done.returncode == 0, done
    assert b"busybox:latest" in done.stdout
