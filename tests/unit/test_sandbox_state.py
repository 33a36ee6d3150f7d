"""The state file: right while the sandbox lives, after it ended, and after it was killed."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.sandbox import read_state
from hypercontainer.sandbox.state import STATE, write_state
from hypercontainer.system import processes


def state_of(pid: int, started: int | None, status: str = "running") -> dict[str, Any]:
    return {
        "id": "x",
        "pid": pid,
        "started": started,
        "status": status,
        "reason": "",
        "containers": {
            "a": {"status": "running", "exit_code": None, "signal": 0, "oom": False, "reason": ""},
            "b": {"status": "stopped", "exit_code": 3, "signal": 0, "oom": False, "reason": ""},
        },
    }


def test_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "missing") is None
    (tmp_path / "file").touch()
    assert read_state(tmp_path / "file") is None


def test_a_live_sandbox(tmp_path: Path) -> None:
    write_state(str(tmp_path), state_of(os.getpid(), processes.start_time(os.getpid())))
    state = read_state(tmp_path)
    assert state is not None
    assert state["alive"] is True
    assert state["containers"]["a"]["status"] == "running"


def test_a_killed_sandbox_is_stopped_with_137(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    write_state(str(tmp_path), state_of(process.pid, processes.start_time(process.pid)))
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    state = read_state(tmp_path)
    process.wait()
    assert state is not None
    assert (state["alive"], state["status"]) == (False, "stopped")
    assert "killed" in state["reason"]
    killed, ended = state["containers"]["a"], state["containers"]["b"]
    assert (killed["status"], killed["exit_code"], killed["signal"]) == ("stopped", 137, 9)
    assert "killed" in killed["reason"]
    assert (ended["exit_code"], ended["reason"]) == (3, "")


def test_a_pid_that_was_used_again_is_not_the_sandbox(tmp_path: Path) -> None:
    write_state(str(tmp_path), state_of(os.getpid(), 1))
    state = read_state(tmp_path)
    assert state is not None
    assert state["alive"] is False


def test_an_orderly_end_keeps_its_reason(tmp_path: Path) -> None:
    state = state_of(os.getpid(), 1, status="stopped")
    state["reason"] = "the guest ended the virtual machine"
    write_state(str(tmp_path), state)
    found = read_state(tmp_path)
    assert found is not None
    assert found["reason"] == "the guest ended the virtual machine"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_state_file_that_is_none_counts_as_no_state(tmp_path: Path, content: bytes) -> None:
    """A host that lost power can leave such a file; it must not make a container undeletable."""
    (tmp_path / STATE).write_bytes(content)
    assert read_state(tmp_path) is None


def test_the_file_is_private_and_replaced_in_one_step(tmp_path: Path) -> None:
    for status in ("booting", "running"):
        write_state(str(tmp_path), state_of(os.getpid(), 1, status=status))
    assert [p.name for p in tmp_path.iterdir()] == [STATE]
    assert (tmp_path / STATE).stat().st_mode & 0o777 == 0o600


def test_a_state_of_another_boot(tmp_path: Path) -> None:
    own = state_of(os.getpid(), processes.start_time(os.getpid()))
    write_state(str(tmp_path), {**own, "boot": "another", "vmm_pid": os.getpid()})
    state = read_state(tmp_path)
    assert state is not None
    assert (state["alive"], state["status"], state["vmm_pid"]) == (False, "stopped", 0)
    running, ended = state["containers"]["a"], state["containers"]["b"]
    assert (running["exit_code"], running["reason"]) == (255, "the host was restarted")
    assert ended["exit_code"] == 3
    write_state(str(tmp_path), {**own, "boot": processes.boot_id()})
    assert (read_state(tmp_path) or {})["alive"] is True
