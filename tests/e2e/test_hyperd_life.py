"""The life of containers through hyperd's API, in real VMs."""

import os
import time
from pathlib import Path

import pytest

from hypercontainer.client import Client
from hypercontainer.client.streams import RawStream
from hypercontainer.errors import Conflict, HyperError, NotFound, NotRunning, ProgramError
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(120)


def test_output_exit_code_and_surroundings(hyperd: Hyperd) -> None:
    result = hyperd.client.run(
        "busybox",
        ["sh", "-c", "echo out $A; echo err >&2; id -u; id -G; hostname; pwd; exit 7"],
        env={"A": "1"},
        user="user",
        workdir="/tmp",
    )
    assert result.exit_code == 7
    assert result.stderr == b"err\n"
    out, uid, groups, hostname, directory = result.stdout.decode().splitlines()
    assert (out, uid, groups, directory) == ("out 1", "1000", "1000 8", "/tmp")
    assert hostname.startswith("python-")
    hyperd.nothing_left()


def test_stdin_to_its_end(hyperd: Hyperd) -> None:
    data = os.urandom(300_000)
    assert hyperd.client.run("busybox", ["cat"], input=data).stdout == data


@pytest.mark.parametrize(("command", "code"), [("nonesuch", 127), ("/etc", 126)])
def test_programs_that_cannot_run(hyperd: Hyperd, command: str, code: int) -> None:
    container = hyperd.create(command)
    with pytest.raises(ProgramError) as caught:
        hyperd.client.start_container(container)
    assert caught.value.exit_code == code
    state = hyperd.state_of(container)
    assert (state["Status"], state["ExitCode"]) == ("exited", code)
    assert command in state["Error"]
    assert hyperd.client.wait(container) == code
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


def test_a_long_life(hyperd: Hyperd) -> None:
    client = hyperd.client
    script = (
        "trap 'sleep 1; exit 7' TERM; echo started $(cat /n); echo -n x >> /n;"
        " while :; do sleep 0.1; done"
    )
    container = hyperd.create("sh", "-c", script, name="long")
    assert hyperd.state_of("long")["Status"] == "created"
    assert not list((hyperd.state / "sandboxes").iterdir()), "a created pod costs no VM"
    with pytest.raises(Conflict, match="the name long is in use"):
        hyperd.create("sh", name="long")
    with pytest.raises(NotRunning, match="container long is not running"):
        client.kill_container("long")

    client.start_container("long")
    (line,) = client.list_containers()
    assert (line["Id"], line["Names"], line["State"]) == (container, ["/long"], "running")
    assert line["Labels"] == {"from": "image"}
    assert hyperd.vm_of("long")["Accel"] in ("tcg", "kvm")
    client.start_container("long")

    _, guest = hyperd.execute("long", "uname", "-r")
    assert guest.strip() != os.uname().release
    assert hyperd.execute("long", "sh", "-c", "exit 37") == (37, "")
    assert hyperd.execute("long", "sh", "-c", "kill -9 $$") == (137, "")
    assert hyperd.execute("long", "tty", tty=True)[1].startswith("/dev/pts/")
    assert hyperd.execute("long", "id", "-u", user="user", env=["A=b"]) == (0, "1000\n")
    exec_id = client.create_exec("long", ["nonesuch"])
    with pytest.raises(ProgramError) as caught:
        client.start_exec("long", exec_id)
    assert caught.value.exit_code == 127
    assert client.wait("long", exec_id) == 127
    exec_id = client.create_exec("long", ["sh", "-c", "echo > /made; exit 3"], detach=True)
    client.start_exec_detached("long", exec_id)
    assert client.wait("long", exec_id) == 3
    for _ in range(20):
        assert hyperd.execute("long", "echo", "hi") == (0, "hi\n")

    client.pause_pod("long")
    assert hyperd.state_of("long")["Status"] == "paused"
    with pytest.raises(NotRunning, match="is paused"):
        client.create_exec("long", ["true"])
    client.unpause_pod("long")
    assert hyperd.execute("long", "ls", "/made") == (0, "/made\n")

    with pytest.raises(Conflict, match="stop it first"):
        client.remove_container("long")
    client.stop_container("long")
    state = hyperd.state_of("long")
    assert (state["Status"], state["ExitCode"], state["Reason"]) == ("exited", 7, "")
    assert client.wait("long") == 7
    hyperd.nothing_left()

    client.start_container(container[:12])
    assert hyperd.execute("long", "ls", "/made") == (0, "/made\n")
    wait_until(lambda: hyperd.output_of("long").count("started") == 2, "the second line")
    assert hyperd.output_of("long", tail=1) == "started x\n"
    client.remove_container("long", force=True)
    with pytest.raises(NotFound):
        client.inspect_container("long")
    hyperd.nothing_left()


def test_who_ignores_term_is_killed_after_the_grace(hyperd: Hyperd) -> None:
    container = hyperd.run("sleep", "100", stopTimeout=1)
    begun = time.monotonic()
    hyperd.client.stop_container(container)
    assert 1 <= time.monotonic() - begun < 10
    state = hyperd.state_of(container)
    assert (state["ExitCode"], state["OOMKilled"]) == (137, False)
    assert state["Reason"] == "killed: it did not stop within 1 s"
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


def test_removed_by_hyperd_itself(hyperd: Hyperd) -> None:
    container = hyperd.run("sh", "-c", "sleep 1; exit 5", name="gone", pod_autoRemove=True)
    assert hyperd.client.wait(container) == 5
    hyperd.create("true", name="gone")
    assert hyperd.client.wait(container) == 5
    hyperd.client.remove_container("gone")
    hyperd.nothing_left()


def test_a_failed_start_of_one_to_be_removed_leaves_nothing(hyperd: Hyperd) -> None:
    container = hyperd.create("nonesuch", pod_autoRemove=True)
    with pytest.raises(ProgramError):
        hyperd.client.start_container(container)
    with pytest.raises(NotFound):
        hyperd.client.inspect_container(container)
    assert hyperd.client.wait(container) == 127
    hyperd.nothing_left()


def test_terminal_attach_detach_and_resize(hyperd: Hyperd) -> None:
    client = hyperd.client
    container = hyperd.create("sh", tty=True, stdin=True)
    first = client.attach(container, stdin=True)
    client.resize(container, 11, 22)
    client.start_container(container)
    first.write(b"stty size\n")
    read_until(first, b"11 22")
    client.resize(container, 33, 77)
    first.write(b"stty size\n")
    read_until(first, b"33 77")
    first.close()
    wait_until(lambda: hyperd.state_of(container)["Running"], "it goes on")

    with client.attach(container, stdin=True) as second:
        second.write(b"echo again; exit 9\n")
        seen = read_until(second, b"again\r\n")
        while data := second.read():
            seen += data
    assert client.wait(container) == 9
    client.remove_container(container)
    hyperd.nothing_left()


def read_until(stream: RawStream, what: bytes) -> bytes:
    seen = b""
    while what not in seen:
        data = stream.read()
        assert data, seen
        seen += data
    return seen


def test_one_who_attached_leaves_before_the_start(hyperd: Hyperd) -> None:
    container = hyperd.create("echo", "hi")
    early = hyperd.client.attach(container)
    early.close()
    with hyperd.client.attach(container) as stream:
        hyperd.client.start_container(container)
        assert list(stream.output()) == [(1, b"hi\n")]
    assert hyperd.client.wait(container) == 0
    hyperd.client.remove_container(container)


def test_volumes(hyperd: Hyperd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    (tmp_path / "dir").mkdir()
    volumes = [
        {"path": "/d", "detail": {"source": str(tmp_path / "dir")}},
        {"path": "/etc/f", "readOnly": True, "detail": {"source": str(tmp_path / "file")}},
        {"path": "/new", "detail": {"source": str(tmp_path / "new")}},
        {"path": "/kept", "detail": {"name": "kept"}},
        {"path": "/anonymous"},
    ]
    script = (
        "cat /etc/f; echo no > /etc/f; mkdir /d/x; chown 1000:8 /d/x; echo n > /new/n;"
        "cat /kept/k; echo k > /kept/k; echo a > /anonymous/a"
    )
    for round_ in range(2):
        container = hyperd.create("sh", "-c", script, volumes=volumes)
        with hyperd.client.attach(container) as stream:
            hyperd.client.start_container(container)
            output = list(stream.output())
        hyperd.client.wait(container)
        errors = b"".join(data for which, data in output if which == 2).decode()
        assert (1, b"of the host\n") in output
        assert "Read-only file system" in errors
        assert ("can't open '/kept/k'" in errors) == (round_ == 0)
        mounts = hyperd.client.inspect_container(container)["Mounts"]
        anonymous = Path(mounts[4]["Source"])
        assert (anonymous / "a").read_text() == "a\n"
        hyperd.client.remove_container(container, volumes=True)
        assert not anonymous.exists()
    made = (tmp_path / "dir/x").stat()
    assert (made.st_uid, made.st_gid) == (1000, 8)
    assert (tmp_path / "new/n").read_text() == "n\n"
    assert (tmp_path / "file").read_text() == "of the host\n"
    hyperd.nothing_left()


def test_following_a_log(hyperd: Hyperd) -> None:
    container = hyperd.run(
        "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done; echo -n end"
    )
    assert hyperd.output_of(container, follow=True) == "1\n2\n3\n4\n5\nend"
    assert hyperd.output_of(container, tail=2) == "5\nend"
    stamped = hyperd.output_of(container, timestamps=True, tail=1)
    since = stamped.split()[0]
    assert hyperd.output_of(container, since=since) == "end"
    with pytest.raises(HyperError, match="one of them is to be true"):
        hyperd.output_of(container, stdout=False, stderr=False)
    hyperd.client.remove_container(container)


def test_an_image_in_use_and_one_that_is_not_there(hyperd: Hyperd) -> None:
    container = hyperd.create("true")
    with pytest.raises(Conflict):
        hyperd.client.remove_image("busybox")
    hyperd.client.remove_container(container)
    with pytest.raises(NotFound, match="nonesuch"):
        hyperd.client.create_pod({"containers": [{"image": "nonesuch"}]})


def test_the_clients_package_runs_a_program(hyperd: Hyperd) -> None:
    result = Client(f"unix://{hyperd.socket}").run("busybox", ["echo", "hi"])
    assert (result.exit_code, result.stdout) == (0, b"hi\n")


def test_a_pod_of_two_containers(hyperd: Hyperd) -> None:
    client = hyperd.client
    command = ["sh", "-c", "echo x >> /n; sleep 0.$(( $(wc -l < /n) * 3 )); exit $(wc -l < /n)"]
    spec = {
        "id": "two",
        "containers": [
            {"name": "short", "image": "busybox", "command": command},
            {"name": "long-lived", "image": "busybox", "command": ["sleep", "100"]},
        ],
    }
    client.create_pod(spec)
    client.start_pod("two")
    assert client.wait("short") == 1
    assert hyperd.vm_of("short")["VmmPid"] == hyperd.vm_of("long-lived")["VmmPid"] > 0
    client.start_container("short")
    assert client.wait("short") == 2, "again in the same VM, on the same disk"
    info = client.pod_info("two")
    assert info["status"]["phase"] == "Running"
    assert [s["phase"] for s in info["status"]["containerStatus"]] == ["failed", "running"]
    client.remove_container("short")
    assert hyperd.execute("long-lived", "echo", "hi") == (0, "hi\n")
    client.stop_pod("two", 0)
    hyperd.nothing_left()
    client.remove_pod("two")
