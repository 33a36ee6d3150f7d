"""The life of a container under runv, as engines and people drive it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.sandbox import read_state
from tests.e2e import leaks
from tests.e2e.rootfs import make_tree
from tests.e2e.runv_process import BOUND, COMMAND, Runv, exit_code, subreaper, until


@pytest.fixture(scope="module")
def runv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runv]:
    directory = tmp_path_factory.mktemp("runv")
    with subreaper():
        yield Runv(directory, make_tree(tmp_path_factory.mktemp("rootfs") / "root"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(runv: Runv, cid: str, status: str = "stopped") -> None:
    until(lambda: runv.state(cid)["status"] == status, 20)


def test_create_start_state_kill_delete(runv: Runv, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with leaks.none(runv.root):
        runv.create("sleep", "3600", cid="life", flags=("--pid-file", str(pid_file)))
        state = runv.state("life")
        pid = int(pid_file.read_text())
        assert state["status"] == "created"
        assert state["pid"] == pid
        assert state["id"] == "life"
        assert state["ociVersion"].startswith("1.")
        assert Path(state["bundle"], "config.json").exists()
        assert alive(pid)
        runv("start", "life")
        assert runv.state("life")["status"] == "running"
        done = runv("delete", "life", check=False)
        assert done.returncode == 1
        assert b"is not stopped" in done.stderr
        runv("kill", "life", "KILL")
        ends(runv, "life")
        assert runv.state("life")["pid"] == 0
        assert exit_code(pid) == 137
        runv("delete", "life")
    done = runv("state", "life", check=False)
    assert done.returncode == 1
    assert done.stderr == b"runv: container does not exist: life\n"


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_process_of_the_pid_file_exits_with_the_programs_code(
    runv: Runv, tmp_path: Path, code: int
) -> None:
    pid_file = tmp_path / "pid"
    runv.create("sh", "-c", f"exit {code}", cid="code", flags=("--pid-file", str(pid_file)))
    runv("start", "code")
    assert exit_code(int(pid_file.read_text())) == code
    ends(runv, "code")
    runv("delete", "code")


@pytest.mark.parametrize(("name", "expected"), [("TERM", 7), ("USR1", 8), ("KILL", 137)])
def test_signals_arrive_as_they_are(runv: Runv, tmp_path: Path, name: str, expected: int) -> None:
    """Known trouble 22."""
    pid_file = tmp_path / "pid"
    traps = "trap 'sleep 1; exit 7' TERM; trap 'exit 8' USR1"
    script = f"{traps}; touch /tmp/up; while :; do sleep 0.1; done"
    (runv.rootfs / "tmp" / "up").unlink(missing_ok=True)
    runv.create("sh", "-c", script, cid="sig", flags=("--pid-file", str(pid_file)))
    runv("start", "sig")
    until((runv.rootfs / "tmp" / "up").exists)
    runv("kill", "sig", name)
    assert exit_code(int(pid_file.read_text())) == expected
    runv("delete", "--force", "sig")


def test_a_signal_to_the_process_of_the_pid_file_reaches_the_program(
    runv: Runv, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    (runv.rootfs / "tmp" / "up").unlink(missing_ok=True)
    script = "trap 'exit 9' TERM; touch /tmp/up; while :; do sleep 0.1; done"
    runv.create("sh", "-c", script, cid="proxy", flags=("--pid-file", str(pid_file)))
    runv("start", "proxy")
    until((runv.rootfs / "tmp" / "up").exists)
    os.kill(int(pid_file.read_text()), signal.SIGTERM)
    assert exit_code(int(pid_file.read_text())) == 9
    runv("delete", "--force", "proxy")


def test_kill_all(runv: Runv) -> None:
    with runv.running(cid="all"):
        runv.quiet("exec", "--detach", "all", "sleep", "3600")
        assert len(json.loads(runv("ps", "--format", "json", "all").stdout)) == 2
        runv("kill", "--all", "all", "9")
        ends(runv, "all")
        runv("kill", "--all", "all", "9")


def test_what_the_states_do_not_allow(runv: Runv) -> None:
    runv.create("sleep", "3600", cid="st")
    assert runv("exec", "st", "echo", "early").stdout == b"early\n"
    for command in ("pause", "resume"):
        done = runv(command, "st", check=False)
        assert done.returncode != 0
        assert b"created" in done.stderr
    runv("start", "st")
    done = runv("start", "st", check=False)
    assert done.returncode == 1
    assert b"already running" in done.stderr
    runv("kill", "st", "KILL")
    ends(runv, "st")
    refused: list[tuple[str, ...]] = [("start",), ("kill",), ("pause",), ("exec", "true")]
    for command, *args in refused:
        done = runv(command, "st", *args, check=False)
        assert done.returncode != 0, command
        assert len(done.stderr.splitlines()) == 1
    runv("delete", "st")


def test_an_id_that_is_taken(runv: Runv) -> None:
    with runv.running(cid="dup"):
        for command in ("create", "run"):
            done = runv(command, "--bundle", runv.bundle("true"), "dup", check=False)
            assert done.returncode == 1
            assert done.stderr == b"runv: container with given ID already exists: dup\n"
        assert runv.state("dup")["status"] == "running"
        assert runv("exec", "dup", "echo", "fine").stdout == b"fine\n"


@pytest.mark.parametrize("stage", ["created", "running", "paused", "stopped"])
def test_delete_with_force_in_each_state(runv: Runv, stage: str) -> None:
    with leaks.none(runv.root):
        runv.create("sleep", "3600", cid="force")
        if stage != "created":
            runv("start", "force")
        if stage == "paused":
            runv("pause", "force")
        if stage == "stopped":
            runv("kill", "force", "KILL")
            ends(runv, "force")
        runv("delete", "--force", "force")
        runv("delete", "--force", "force")


@pytest.mark.parametrize("stage", ["created", "running", "paused"])
@pytest.mark.parametrize("victim", ["vmm_pid", "pid"])
def test_a_vm_or_sandbox_killed_in_each_state_can_be_deleted(
    runv: Runv, tmp_path: Path, stage: str, victim: str
) -> None:
    """Known troubles 24 and 30: after kill -9 of QEMU delete failed."""
    pid_file = tmp_path / "pid"
    with leaks.none(runv.root):
        runv.create("sleep", "3600", cid="dead", flags=("--pid-file", str(pid_file)))
        if stage != "created":
            runv("start", "dead")
        if stage == "paused":
            runv("pause", "dead")
        began = time.monotonic()
        os.kill(runv.sandbox("dead")[victim], signal.SIGKILL)
        assert exit_code(int(pid_file.read_text())) == 137
        ends(runv, "dead")
        assert time.monotonic() - began < 10
        done = runv("exec", "dead", "true", check=False)
        assert b"stopped" in done.stderr
        runv("delete", "dead")


def test_a_killed_proxy_kills_the_container(runv: Runv, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with leaks.none(runv.root):
        runv.create("sleep", "3600", cid="px", flags=("--pid-file", str(pid_file)))
        runv("start", "px")
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        ends(runv, "px")
        runv("delete", "px")


def test_a_killed_run_does_not_leave_a_vm_that_can_not_be_deleted(runv: Runv) -> None:
    bundle = runv.bundle("sleep", "3600")
    with leaks.none(runv.root):
        running = subprocess.Popen(
            [COMMAND, *runv.flags, "run", "--bundle", bundle, "kr"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(lambda: runv("state", "kr", check=False).returncode == 0)
        until(lambda: runv.state("kr")["status"] == "running")
        running.kill()
        running.wait(BOUND)
        runv("delete", "--force", "kr")


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3, 0.5])
def test_a_create_that_is_killed_at_any_time_can_be_cleaned_up(runv: Runv, delay: float) -> None:
    """Known trouble 28: a crash at any step of create left what only a reset removed."""
    bundle = runv.bundle("sleep", "3600")
    with leaks.none(runv.root):
        creating = subprocess.Popen(
            [COMMAND, *runv.flags, "create", "--bundle", bundle, "kc"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        creating.kill()
        creating.wait(BOUND)
        runv("delete", "--force", "kc")
        with runv.running(cid="kc"):
            assert runv("exec", "kc", "echo", "ok").stdout == b"ok\n"


def test_a_signal_to_run_is_passed_on(runv: Runv) -> None:
    (runv.rootfs / "tmp" / "up").unlink(missing_ok=True)
    script = "trap 'echo got; exit 5' TERM; touch /tmp/up; while :; do sleep 0.1; done"
    running = subprocess.Popen(
        [COMMAND, *runv.flags, "run", "--bundle", runv.bundle("sh", "-c", script), "fwd"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    until((runv.rootfs / "tmp" / "up").exists)
    running.terminate()
    out, _ = running.communicate(timeout=BOUND)
    assert (out, running.returncode) == (b"got\n", 5)


def test_pause_and_resume(runv: Runv) -> None:
    log = runv.rootfs / "tmp" / "ticks"
    script = "while :; do echo x >> /tmp/ticks; sleep 0.05; done"
    with runv.running("sh", "-c", script, cid="pause"):
        until(log.exists)
        runv("pause", "pause")
        assert runv.state("pause")["status"] == "paused"
        time.sleep(0.3)
        size = log.stat().st_size
        time.sleep(0.5)
        assert log.stat().st_size == size
        runv("resume", "pause")
        assert runv.state("pause")["status"] == "running"
        until(lambda: log.stat().st_size > size)


def test_list_and_ps(runv: Runv, tmp_path: Path) -> None:
    runv = Runv(tmp_path, runv.rootfs)
    with runv.running(cid="l1"), runv.running(cid="l2"):
        assert runv("list", "--quiet").stdout.split() == [b"l1", b"l2"]
        rows = json.loads(runv("list", "--format", "json").stdout)
        assert [(r["id"], r["status"]) for r in rows] == [("l1", "running"), ("l2", "running")]
        assert all(r["pid"] > 0 and r["owner"] == "root" for r in rows)
        table = runv("list").stdout.splitlines()
        assert table[0].split()[:4] == [b"ID", b"PID", b"STATUS", b"BUNDLE"]
        assert len(table) == 3
        table = runv("ps", "l1").stdout.splitlines()
        assert table[0].split()[:3] == [b"UID", b"PID", b"PPID"]
        assert table[1].endswith(b"sleep 3600")
    assert runv("list", "--quiet").stdout == b""


def test_a_hundred_ids_of_the_longest_kind(runv: Runv) -> None:
    cid = "x" * 64 + "+._-"
    with leaks.none(runv.root), runv.running(cid=cid):
        assert runv("exec", cid, "echo", "ok").stdout == b"ok\n"


def test_create_exec_exit_delete_in_turns_leaves_nothing(runv: Runv) -> None:
    """Known troubles 23 and 25: leftovers after cycles of create and delete."""
    with leaks.none(runv.root):
        for number in range(8):
            with runv.running(cid="turn"):
                done = runv("exec", "turn", "sh", "-c", f"exit {number}", check=False)
                assert done.returncode == number


def test_a_sandbox_outlives_every_command_and_ends_with_the_container(runv: Runv) -> None:
    runv.create("sh", "-c", "sleep 1", cid="own")
    runv("start", "own")
    ends(runv, "own")
    state = read_state(runv.root / "own" / "sandbox")
    assert state is not None
    until(lambda: not alive(state["pid"]), 15)
    runv("delete", "own")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--kernel", "/no/kernel"], b"guest kernel /no/kernel not found"),
        (["--initrd", "/no/initrd"], b"guest initrd /no/initrd not found"),
        (["--default_memory", "1"], b"memory"),
        (["--default_cpus", "0"], b"cpus"),
    ],
)
def test_a_vm_that_can_not_be_made(runv: Runv, flags: list[str], text: bytes) -> None:
    with leaks.none(runv.root):
        bundle = runv.bundle("true")
        done = subprocess.run(
            [COMMAND, *runv.flags, *flags, "run", "--bundle", bundle, "nov"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BOUND,
        )
    assert done.returncode == 1
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_qemu_that_is_missing(runv: Runv) -> None:
    with leaks.none(runv.root):
        done = subprocess.run(
            [COMMAND, *runv.flags, "run", "--bundle", runv.bundle("true"), "noq"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BOUND,
            env={**os.environ, "HYPER_QEMU": "qemu-that-is-missing"},
        )
    assert done.returncode == 1
    assert b"apt-get install qemu-system-x86" in done.stderr
