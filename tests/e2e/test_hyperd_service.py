"""hyperd under a service manager: sockets passed to it, readiness, units, a restart."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.client import Client
from tests.e2e.hyperd_process import Hyperd

pytestmark = pytest.mark.timeout(120)

PACKAGING = Path(__file__).parents[2] / "packaging/systemd"


class Manager:
    """What systemd does for hyperd.service: keeps its socket, starts it, hears from it."""

    def __init__(self, hyperd: Hyperd) -> None:
        self.hyperd = hyperd
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(str(hyperd.socket))
        self.listening.listen(16)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(hyperd.state / "notify"))
        self.notified.settimeout(30)

    def start(self, *flags: str, passed: socket.socket | None = None) -> None:
        """Start hyperd with the socket as its descriptor 3, as sd_listen_fds(3) says."""
        descriptor = (passed or self.listening).fileno()
        script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{descriptor}'
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.hyperd.state / "notify")}
        with self.hyperd.log.open("ab") as log:
            self.hyperd.process = subprocess.Popen(
                ["bash", "-c", script, "bash", *self.hyperd.command("--nondaemon", *flags)],
                stderr=log,
                pass_fds=[descriptor],
                env=environment,
            )

    def heard(self) -> list[str]:
        """The next message of the service."""
        return self.notified.recv(4096).decode().split("\n")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that has not started hyperd yet."""
    hyperd = Hyperd(tmp_path)
    try:
        yield Manager(hyperd)
    finally:
        hyperd.close()


def test_activated_by_its_socket(manager: Manager) -> None:
    hyperd = manager.hyperd
    answers: list[str] = []

    def ask() -> None:
        Client(f"unix://{hyperd.socket}").ping()
        answers.append("pong")

    early = threading.Thread(target=ask)
    early.start()
    manager.start("--host=fd://")
    ready = manager.heard()
    assert ready[0] == "READY=1"
    assert f"unix://{hyperd.socket}" in ready[1]
    early.join(timeout=30)
    assert answers == ["pong"], "who came before it was started is served"

    hyperd.load_image()
    container = hyperd.run("sleep", "1000")
    machine = hyperd.vm_of(container)["VmmPid"]
    hyperd.end(signal.SIGKILL)
    between = threading.Thread(target=ask)
    between.start()
    manager.start("--host=fd://")
    assert manager.heard()[0] == "READY=1"
    between.join(timeout=30)
    assert answers == ["pong", "pong"], "who came between waited, and was not refused"
    assert hyperd.vm_of(container)["VmmPid"] == machine
    environment = Path(f"/proc/{machine}/environ").read_bytes()
    assert b"NOTIFY_SOCKET" not in environment
    assert b"LISTEN_FDS" not in environment

    assert hyperd.process is not None
    hyperd.process.send_signal(signal.SIGTERM)
    assert manager.heard() == ["STOPPING=1"]
    assert hyperd.process.wait(timeout=20) == 0
    assert hyperd.socket.is_socket(), "the socket is the manager's"
    manager.start()
    assert manager.heard()[0] == "READY=1", "a socket that is passed is used without fd:// too"
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


def test_sockets_that_are_not_to_be_used(manager: Manager) -> None:
    hyperd = manager.hyperd
    alone = subprocess.run(
        hyperd.command("--nondaemon", "--host=fd://"), capture_output=True, text=True, timeout=30
    )
    assert alone.returncode == 1
    assert "no sockets were passed (LISTEN_FDS)" in alone.stderr
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        manager.start(passed=wrong)
        assert hyperd.process is not None
        assert hyperd.process.wait(timeout=30) == 2
    with socket.socket() as open_to_all:
        open_to_all.bind(("0.0.0.0", 0))
        open_to_all.listen()
        manager.start(passed=open_to_all)
        assert hyperd.process.wait(timeout=30) == 1
    said = hyperd.log.read_text()
    assert "descriptor 3 is no listening stream socket" in said
    assert "Host 0.0.0.0 can be reached by others" in said


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_units_are_valid(tmp_path: Path) -> None:
    for name in ("hyperd", "runv-containerd"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    for unit in PACKAGING.iterdir():
        text = unit.read_text().replace("@BINDIR@", str(tmp_path))
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(tmp_path / unit.name) for unit in PACKAGING.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (tmp_path / "hyperd.service").write_text("[Service]\nExecStart=/bin/true\nKilMode=process\n")
    broken = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", units[0]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "KilMode" in broken.stderr, "the check can fail"
