"""Terminals under runv: on our own tty, and handed to an engine by a console socket."""

import os
import pty
import select
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.rootfs import make_tree
from tests.e2e.runv_process import BOUND, COMMAND, Runv


@pytest.fixture(scope="module")
def runv(tmp_path_factory: pytest.TempPathFactory) -> Runv:
    directory = tmp_path_factory.mktemp("runv")
    return Runv(directory, make_tree(tmp_path_factory.mktemp("rootfs") / "root"))


@pytest.fixture(scope="module")
def box(runv: Runv) -> Iterator[str]:
    with runv.running(cid="box") as cid:
        yield cid


class Terminal:
    """A pty whose other end is the terminal of a command."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.seen = b""

    def until(self, text: bytes) -> bytes:
        """Read until `text` has come; returns all up to it."""
        deadline = time.monotonic() + BOUND
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    data = os.read(self.master, 4096)
                except OSError:
                    data = b""
                assert data, f"end before {text!r} in {self.seen!r}"
                self.seen += data
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def write(self, data: bytes) -> None:
        os.write(self.master, data)

    def resize(self, rows: int, cols: int) -> None:
        termios.tcsetwinsize(self.master, (rows, cols))


def on_terminal(
    *args: str, size: tuple[int, int] = (24, 80)
) -> tuple[Terminal, "subprocess.Popen[bytes]", int]:
    """Start a command with a terminal as its controlling one."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, size)
    running = subprocess.Popen(
        args,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=lambda: os.login_tty(slave) if hasattr(os, "login_tty") else None,
        start_new_session=not hasattr(os, "login_tty"),
    )
    return Terminal(master), running, slave


class ConsoleSocket:
    """Takes one terminal, as an engine's shim does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.settimeout(BOUND)
        self._fds: list[int] = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        peer, _ = self._listener.accept()
        with peer:
            _, self._fds, _, _ = socket.recv_fds(peer, 4096, 4)

    def terminal(self) -> Terminal:
        self._thread.join(BOUND)
        assert len(self._fds) == 1
        return Terminal(self._fds[0])


def test_run_on_our_terminal(runv: Runv) -> None:
    bundle = runv.bundle("sh", "-c", "stty size; read x; echo =$x=; exit 6", terminal=True)
    terminal, running, slave = on_terminal(
        COMMAND, *runv.flags, "run", "--bundle", bundle, "tty", size=(33, 99)
    )
    before = termios.tcgetattr(slave)
    terminal.until(b"33 99\r\n")
    terminal.write(b"hello\r")
    assert terminal.until(b"=hello=\r\n") == b"hello\r\n=hello=\r\n"
    assert running.wait(BOUND) == 6
    assert termios.tcgetattr(slave) == before


def test_control_c_goes_to_the_program(runv: Runv) -> None:
    script = "trap 'echo int; exit 4' INT; echo up; while :; do sleep 0.1; done"
    bundle = runv.bundle("sh", "-c", script, terminal=True)
    terminal, running, _ = on_terminal(COMMAND, *runv.flags, "run", "--bundle", bundle, "ctrlc")
    terminal.until(b"up\r\n")
    terminal.write(b"\x03")
    terminal.until(b"int\r\n")
    assert running.wait(BOUND) == 4


def test_exec_on_our_terminal_follows_its_size(runv: Runv, box: str) -> None:
    script = "trap 'stty size' WINCH; tty; while read x; do echo $x; done"
    terminal, running, _ = on_terminal(COMMAND, *runv.flags, "exec", "-t", box, "sh", "-c", script)
    terminal.until(b"/dev/pts/0\r\n")
    terminal.resize(51, 133)
    running.send_signal(28)
    terminal.write(b"x\r")
    terminal.until(b"51 133\r\n")
    terminal.write(b"\x04")
    assert running.wait(BOUND) == 0


def test_the_console_socket_of_create(runv: Runv, tmp_path: Path) -> None:
    console = ConsoleSocket(tmp_path / "console")
    script = "echo up; read x; echo =$x=; stty size; exit 2"
    runv.create(
        "sh", "-c", script, cid="cs", flags=("--console-socket", console.path), terminal=True
    )
    terminal = console.terminal()
    terminal.resize(40, 120)
    runv("start", "cs")
    terminal.until(b"up\r\n")
    terminal.write(b"there\r")
    terminal.until(b"=there=\r\n")
    runv("delete", "--force", "cs")


def test_the_console_socket_of_exec(runv: Runv, box: str, tmp_path: Path) -> None:
    console = ConsoleSocket(tmp_path / "console")
    runv.quiet(
        "exec",
        "-t",
        "--detach",
        "--console-socket",
        console.path,
        box,
        "sh",
        "-c",
        "echo up; read x; echo =$x=",
    )
    terminal = console.terminal()
    terminal.until(b"up\r\n")
    terminal.write(b"you\r")
    terminal.until(b"=you=\r\n")


def test_a_console_socket_that_nobody_listens_to(runv: Runv, tmp_path: Path) -> None:
    bundle = runv.bundle("sh", terminal=True)
    flags = ("--console-socket", str(tmp_path / "none"), "--bundle", bundle)
    done = runv("create", *flags, "nocs", check=False)
    assert done.returncode == 1
    assert b"console socket" in done.stderr
    assert b"nocs" not in runv("list", "--quiet").stdout


def test_a_terminal_without_any(runv: Runv) -> None:
    done = runv("run", "--bundle", runv.bundle("sh", terminal=True), "notty", check=False)
    assert done.returncode == 1
    assert b"wants a terminal" in done.stderr
