"""Starting a container's sandbox from a command that ends right after."""

import json
import os
import signal
import subprocess
import sys

from ..errors import VMError, from_wire
from ..sandbox import VMConfig
from ..system import cgroups, processes
from ..system.files import write_atomic

_KILL_BOUND = 5.0
_MODULE = "hypercontainer.sandbox.process"


_PID = "launched"


def launch(sandbox_id: str, state_dir: str, vm: VMConfig, group: list[str]) -> None:
    """Start the sandbox process and return once it takes requests. Raises VMError.

    It and what it starts are in the control group `group`. The process is left
    to whoever is this command's subreaper.
    """
    vm.validate()
    os.makedirs(state_dir, mode=0o700)
    log_path = os.path.join(state_dir, "sandbox.log")
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", _MODULE, state_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    # Without the request that follows it starts nothing, and ends when this command does.
    cgroups.enter(group, process.pid)
    started = processes.start_time(process.pid) or 0
    write_atomic(os.path.join(state_dir, _PID), f"{process.pid} {started}".encode())
    process.stdin.write(json.dumps({"id": sandbox_id, "vm": vm.to_json()}).encode())
    process.stdin.close()
    line = process.stdout.readline()
    process.stdout.close()
    message = json.loads(line) if line else {}
    if "error" in message:
        raise from_wire(message["error"])
    if message.get("event") != "listening":
        with open(log_path, errors="replace") as log_text:
            said = log_text.read().strip().splitlines()
        raise VMError(f"the sandbox process ended at once: {said[-1] if said else 'no reason'}")


def kill_launched(state_dir: str) -> None:
    """Kill the sandbox that `launch` started in `state_dir`, and with it its VM."""
    try:
        with open(os.path.join(state_dir, _PID)) as file:
            pid, started = map(int, file.read().split())
    except FileNotFoundError:
        return
    processes.kill_and_wait(pid, started, signal.SIGKILL, _KILL_BOUND)
