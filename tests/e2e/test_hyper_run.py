"""`hyper run` with real VMs: exit codes, streams, terminals, signals, and nothing left."""

import json
import os
import signal
import subprocess

import pytest

from hypercontainer import Client
from hypercontainer.errors import NotFound
from tests.e2e.command_line import BOUND, HYPER, Hyper, until
from tests.e2e.hyperd_process import Hyperd


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


def test_exit_code_and_separate_streams(hyper: Hyper) -> None:
    done = hyper("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("no-such-program", 127, b"executable file not found in $PATH"),
        ("/etc", 126, b"permission denied"),
    ],
)
def test_program_that_cannot_run(hyper: Hyper, program: str, code: int, message: bytes) -> None:
    done = hyper("run", "--rm", "busybox", program)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"hyper: ") and done.stderr.count(b"\n") == 1
    assert message in done.stderr
    assert hyper.text("list", "-aq") == ""


def test_missing_image_leaves_nothing(hyper: Hyper, hyperd: Hyperd) -> None:
    image = "127.0.0.1:1/does-not-exist"
    done = hyper("run", "--name", "ghost", image)
    assert (done.returncode, done.stdout) == (125, b"")
    first, *_, last = done.stderr.decode().splitlines()
    assert first == f"Unable to find image '{image}' locally"
    assert last.startswith("hyper: ") and "127.0.0.1:1" in last
    done = hyper("run", "--pull", "never", image)
    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1 and b"no such image" in done.stderr
    assert hyper.text("list", "-aq") == ""
    hyperd.nothing_left()


def test_a_mebibyte_through_stdin_and_stdout(hyper: Hyper) -> None:
    data = os.urandom(1 << 20)
    done = hyper("run", "-i", "--rm", "busybox", "cat", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_stdin_is_left_alone_without_interactive(hyper: Hyper) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"for the next one")
    os.close(writing)
    with os.fdopen(reading, "rb") as stdin:
        done = subprocess.run(
            [str(HYPER), "run", "--rm", "busybox", "cat"],
            stdin=stdin,
            capture_output=True,
            timeout=BOUND,
            env=hyper.environment,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert stdin.read() == b"for the next one"


def test_signals_go_to_the_container(hyper: Hyper) -> None:
    script = 'trap "echo term; exit 9" TERM; echo ready; while :; do sleep 0.1; done'
    process = hyper.start("run", "--rm", "busybox", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, out, err) == (9, b"term\n", b"")


def test_reader_that_leaves_ends_hyper_quietly(hyper: Hyper) -> None:
    process = hyper.start("run", "--name", "endless", "busybox", "yes")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait(BOUND) == 128 + signal.SIGPIPE
    assert process.stderr.read() == b""
    assert hyper.text("rm", "-f", "endless") == "endless"


def test_terminal(hyper: Hyper) -> None:
    """Size, resizing, ctrl-c for the container, detaching, attaching again, exit code."""
    terminal = hyper.on_terminal("run", "-it", "--name", "term", "busybox", "sh", rows=33)
    try:
        terminal.expect(b"# ")
        terminal.send(b"stty size\n")
        terminal.expect(b"33 80")
        terminal.resize(40, 100)
        until(lambda: _size(terminal) == b"40 100")
        terminal.send(b"sh -c 'echo as''leep; sleep 100'\n")
        terminal.expect(b"asleep")
        terminal.send(b"\x03")
        terminal.expect(b"# ")
        terminal.send(b"A=kept\n\x10\x11")
        terminal.expect(b"read escape sequence")
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert hyper.text("list", "-q") != ""
    terminal = hyper.on_terminal("attach", "term")
    try:
        terminal.send(b"echo it is $A\n")
        terminal.expect(b"it is kept")
        terminal.send(b"exit 3\n")
        assert terminal.end() == 3
    finally:
        terminal.close()
    assert hyper.text("wait", "term") == "3"
    assert hyper.text("rm", "term") == "term"


def _size(terminal: object) -> bytes:
    from tests.e2e.command_line import Terminal

    assert isinstance(terminal, Terminal)
    terminal.send(b"stty size; echo e''nd\n")
    return terminal.expect(b"end").splitlines()[-2].strip()


def test_a_terminal_needs_one(hyper: Hyper) -> None:
    done = hyper("run", "-it", "busybox", "true")
    assert done.returncode == 125
    assert b"the input device is not a terminal" in done.stderr


def test_stop_gives_time_and_then_kills(hyper: Hyper) -> None:
    script = 'trap "sleep 1; exit 7" TERM; echo up; while :; do sleep 0.1; done'
    name = hyper.text("run", "-d", "--name", "polite", "busybox", "sh", "-c", script)
    assert len(name) == 64
    until(lambda: hyper.text("logs", "polite") == "up")
    assert hyper.text("stop", "polite") == "polite"
    assert hyper.text("wait", "polite") == "7"
    assert hyper.text("start", "polite") == "polite"
    until(lambda: hyper.text("logs", "--tail", "1", "polite") == "up")
    assert hyper.text("kill", "polite") == "polite"
    assert hyper.text("wait", "polite") == "137"
    assert hyper.text("rm", "polite") == "polite"


def test_ignoring_the_stop_signal(hyper: Hyper) -> None:
    script = 'trap "" TERM; echo up; while :; do sleep 0.1; done'
    hyper.text("run", "-d", "--name", "stubborn", "busybox", "sh", "-c", script)
    until(lambda: hyper.text("logs", "stubborn") == "up")
    assert hyper.text("stop", "-t", "1", "stubborn") == "stubborn"
    state = json.loads(hyper.text("inspect", "stubborn"))[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert hyper.text("rm", "stubborn") == "stubborn"


def test_create_then_start_attached(hyper: Hyper) -> None:
    script = "cat; hostname; id -un; pwd; echo $A; exit 5"
    created = hyper.text(
        "create", "-i", "--name", "later", "--hostname", "box", "-e", "A=b c", "-w", "/tmp",
        "-u", "user", "-l", "x=y", "-m", "160m", "busybox", "sh", "-c", script,
    )  # fmt: skip
    assert "Created" in hyper.text("list", "-a")
    done = hyper("start", "-ai", "later", input=b"input\n")
    assert (done.returncode, done.stdout) == (5, b"input\nbox\nuser\n/tmp\nb c\n")
    details = json.loads(hyper.text("inspect", created[:12]))[0]
    assert details["Id"] == created and details["State"]["ExitCode"] == 5
    assert details["Config"]["Labels"]["x"] == "y"
    assert hyper.text("rm", "later") == "later"


def test_python_client_that_never_opens_stdin(hyper: Hyper, hyperd: Hyperd) -> None:
    """Not only what came until the first flush (kata-containers #13640)."""
    client = Client(hyper.host)
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.4; done; echo end >&2; exit 4"
    result = client.run("busybox", ["sh", "-c", script])
    assert (result.exit_code, result.stdout, result.stderr) == (4, b"1\n2\n3\n4\n5\n", b"end\n")
    with pytest.raises(NotFound):
        client.run("no-such-image:x", pull=False)
    assert client.list_containers(all=True) == []
    hyperd.nothing_left()


def test_a_lost_vm_is_told(hyper: Hyper, hyperd: Hyperd) -> None:
    process = hyper.start("run", "--name", "lost", "busybox", "sh", "-c", "echo up; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    os.kill(hyperd.vm_of("lost")["VmmPid"], signal.SIGKILL)
    _, err = process.communicate(timeout=BOUND)
    assert process.returncode == 137
    assert err == b"hyper: container lost ended: QEMU was killed by signal 9\n"
    hyper.text("rm", "lost")
    hyperd.nothing_left()


def test_output_is_only_what_was_attached(hyper: Hyper) -> None:
    done = hyper("run", "--rm", "-a", "stderr", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"err\n")
