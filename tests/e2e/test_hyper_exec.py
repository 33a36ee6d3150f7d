"""Commands on one running container: exec, logs, list, inspect; and on several at once."""

import json
import os
import platform
import time
from collections.abc import Iterator

import pytest

from tests.e2e.command_line import BOUND, Hyper, until
from tests.e2e.hyperd_process import Hyperd


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


SCRIPT = "echo first; echo second >&2; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def box(hyper: Hyper) -> Iterator[str]:
    """A container that waits, for all tests of this module."""
    hyper.text("run", "-d", "--name", "box", "-e", "KEPT=yes", "busybox", "sh", "-c", SCRIPT)
    until(lambda: len(hyper("logs", "box").stderr) > 0)
    yield "box"
    assert hyper.text("rm", "-f", "box") == "box"
    assert hyper.text("list", "-aq") == ""


def test_exec_is_in_the_guest(hyper: Hyper, box: str) -> None:
    kernel = hyper.text("exec", box, "uname", "-r")
    assert kernel and kernel != platform.release()
    assert hyper.text("exec", box, "sh", "-c", "echo $KEPT; hostname") == "yes\nbox"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 9"], 9),
        (["sh", "-c", "kill -9 $$"], 137),
        (["no-such-program"], 127),
        (["/etc"], 126),
    ],
)
def test_exit_codes(hyper: Hyper, box: str, command: list[str], code: int) -> None:
    assert hyper("exec", box, *command).returncode == code


def test_stdin_ends(hyper: Hyper, box: str) -> None:
    assert hyper("exec", "-i", box, "cat", input=b"123\n").stdout == b"123\n"
    assert hyper("exec", "-i", box, "cat", input=b"").stdout == b""
    assert hyper("exec", box, "cat", input=b"not read").stdout == b""


def test_streams_stay_apart_and_whole(hyper: Hyper, box: str) -> None:
    data = os.urandom(1 << 20)
    done = hyper("exec", "-i", box, "sh", "-c", "tee /dev/stderr", input=data)
    assert done.returncode == 0
    assert done.stdout == data and done.stderr == data


def test_user_directory_and_variables(hyper: Hyper, box: str) -> None:
    options = ("-u", "user", "-w", "/tmp", "-e", "A=1", "-e", "KEPT=no")
    out = hyper.text("exec", *options, box, "sh", "-c", "id -u; pwd; echo $A $KEPT")
    assert out == "1000\n/tmp\n1 no"
    done = hyper("exec", "-u", "nobody-there", box, "true")
    assert done.returncode == 125 and b"nobody-there" in done.stderr


def test_quick_execs_in_a_row(hyper: Hyper, box: str) -> None:
    for number in range(20):
        assert hyper.text("exec", box, "echo", str(number)) == str(number)


def test_terminal(hyper: Hyper, box: str) -> None:
    terminal = hyper.on_terminal("exec", "-it", box, "sh", rows=30, columns=90)
    try:
        terminal.expect(b"# ")
        terminal.send(b"stty size; tty\n")
        terminal.expect(b"30 90")
        terminal.expect(b"/dev/pts/")
        terminal.send(b"exit 4\n")
        assert terminal.end() == 4
    finally:
        terminal.close()


def test_detached(hyper: Hyper, box: str) -> None:
    assert hyper.text("exec", "-d", box, "sh", "-c", "sleep 0.2; echo x > /tmp/made") == ""
    until(lambda: hyper("exec", box, "cat", "/tmp/made").stdout == b"x\n")


def test_in_the_vm_itself(hyper: Hyper, hyperd: Hyperd, box: str) -> None:
    assert hyper.text("exec", "-m", box, "/sbin/busybox", "sh", "-c", "echo aaa") == "aaa"
    script = "readlink /vm; cat /proc/1/comm; ls -d /vm/sys; ps | grep -c 'while :'; exit 7"
    done = hyper("exec", "--vm", "-e", "A=1", box, "sh", "-c", script)
    assert done.returncode == 7
    link, init, directory, _ = done.stdout.decode().splitlines()
    assert (link, init, directory) == ("proc/1/root", "init", "/vm/sys")
    assert hyper("exec", "-mi", box, "cat", input=b"in\n").stdout == b"in\n"
    assert hyper("exec", "-m", box, "nonesuch").returncode == 127
    refused = hyper("exec", "-m", "-u", "user", box, "id")
    assert refused.returncode == 125 and b"exec.user: in the VM itself" in refused.stderr
    terminal = hyper.on_terminal("exec", "-mit", box, "sh", rows=31, columns=91)
    try:
        terminal.expect(b"# ")
        terminal.send(b"stty size\n")
        terminal.expect(b"31 91")
        terminal.send(b"exit 4\n")
        assert terminal.end() == 4
    finally:
        terminal.close()
    response = hyperd.client._http.request(
        "POST", "/execvm", {"pod": box, "command": '["sh", "-c", "echo aaa; exit 3"]'}, upgrade=True
    )
    exec_id = response._raw.headers["X-Hyper-Exec"]
    with response.hijack() as stream:
        assert b"".join(iter(stream.read, b"")) == b"aaa\n"
    assert hyperd.client.wait(box, exec_id) == 3
    assert hyper.text("exec", box, "echo", "on") == "on"


def test_what_runs_in_the_vm_does_not_keep_it(hyper: Hyper, hyperd: Hyperd) -> None:
    hyper.text(
        "run",
        "-d",
        "--rm",
        "--name=short",
        "busybox",
        "sh",
        "-c",
        "until [ -e /go ]; do sleep 0.1; done",
    )
    exec_id = hyperd.client.create_exec("short", ["sleep", "1000"], vm=True, detach=True)
    hyperd.client.start_exec_detached("short", exec_id)
    hyper.text("exec", "short", "touch", "/go")
    until(lambda: hyper("inspect", "short").returncode == 1)
    until(lambda: not [path for path in hyperd.leftovers() if "short" in path])


def test_logs(hyper: Hyper, box: str) -> None:
    done = hyper("logs", box)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"first\n", b"second\n")
    assert hyper("logs", "--tail", "0", box).stdout == b""
    stamp, text = hyper("logs", "-t", box).stdout.decode().split()
    assert stamp.startswith("20") and stamp.endswith("Z") and text == "first"
    assert hyper("logs", "--since", "0.001s", box).stdout == b""
    assert hyper("logs", "--since", "1h", box).stdout == b"first\n"


def test_logs_follow_and_a_reader_that_leaves(hyper: Hyper, box: str) -> None:
    process = hyper.start("logs", "-f", box)
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    hyper.text("exec", box, "sh", "-c", "echo more > /proc/1/fd/1")
    assert process.stdout.readline() == b"more\n"
    process.stdout.close()
    hyper.text("exec", box, "sh", "-c", "echo again > /proc/1/fd/1")
    assert process.wait(BOUND) == 141
    assert process.stderr is not None and process.stderr.read() == b"second\n"


def test_attach_again_and_again(hyper: Hyper, box: str) -> None:
    """Each attach sees what is written from then on (E2B #1074)."""
    for number in range(2):
        process = hyper.start("attach", "--no-stdin", "--sig-proxy=false", box)
        assert process.stdout is not None
        time.sleep(0.5)
        hyper.text("exec", box, "sh", "-c", f"echo number {number} > /proc/1/fd/1")
        assert process.stdout.readline() == f"number {number}\n".encode()
        process.terminate()
        process.communicate(timeout=BOUND)
    assert "number 1" in hyper("logs", "--tail", "1", box).stdout.decode()


def test_list_and_inspect(hyper: Hyper, box: str) -> None:
    header, line = hyper.text("list").splitlines()
    assert header.split("  ")[0] == "CONTAINER ID"
    (listed,) = json.loads(hyper.text("list", "--format", "json"))
    assert listed["Id"].startswith(line.split()[0]) and listed["State"] == "running"
    assert hyper.text("ps", "-q", "--no-trunc") == listed["Id"]
    details = json.loads(hyper.text("inspect", box))[0]
    assert details["Id"] == listed["Id"] and details["State"]["Running"] is True
    image = json.loads(hyper.text("inspect", "--type", "image", "busybox"))[0]
    assert image["Id"] == details["Image"] or image["Id"] == listed["ImageID"]


def test_pause(hyper: Hyper, box: str) -> None:
    assert hyper.text("pause", box) == box
    assert "Paused" in hyper.text("list")
    done = hyper("exec", box, "true")
    assert done.returncode == 125 and b"paused" in done.stderr
    assert hyper.text("unpause", box) == box
    assert hyper.text("exec", box, "echo", "on") == "on"


def test_several_names_go_on_after_a_failure(hyper: Hyper, box: str) -> None:
    done = hyper("kill", "-s", "CONT", "no-such-one", box)
    assert (done.returncode, done.stdout) == (1, b"box\n")
    assert done.stderr == b"hyper: no such container: no-such-one\n"
    done = hyper("inspect", "no-such-one", box)
    assert done.returncode == 1 and len(json.loads(done.stdout)) == 1


def test_removing_needs_force(hyper: Hyper, box: str) -> None:
    done = hyper("rm", box)
    assert done.returncode == 1 and b"stop it first" in done.stderr
    assert hyper("run", "--name", box, "busybox").returncode == 125
    assert hyper("rmi", "busybox").returncode == 1


def test_images_info_version(hyper: Hyper, box: str) -> None:
    line = hyper.text("images", "busybox").splitlines()[1].split()
    assert line[:2] == ["busybox", "latest"]
    assert hyper.text("images", "-q").splitlines()[0] == line[2]
    assert hyper.text("images", "other") == hyper.text("images", "other:*")
    assert json.loads(hyper.text("images", "--format", "json"))[0]["RepoTags"]
    assert json.loads(hyper.text("info", "--format", "json"))["Containers"] == 1
    assert "hyperd:" in hyper.text("version")
    assert json.loads(hyper.text("version", "--format", "json"))["server"]["version"]
