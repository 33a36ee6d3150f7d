"""Starting a container's sandbox from a command that ends right after."""

import os
import sys

from ..errors import VMError, from_wire
from ..quick import json, signals
from ..quick.types import Callable
from ..sandbox import VMConfig, place
from ..sandbox.state import SOCKET, STATE
from ..system import cgroups, processes
from ..system.files import write_atomic

_KILL_BOUND = 5.0
_MODULE = "hypercontainer.sandbox.process"


def launch(
    sandbox_id: str, state_dir: str, vm: VMConfig, group: list[str], keep: int
) -> Callable[[], None]:
    """Start the sandbox process; what is returned waits until it takes requests.

    It and what it starts are in the control group `group`. A keeper starts it,
    on a VM that it has ready if it can, and keeps `keep` of them ready for
    the next commands (0: no keeper). Without one the process is left to
    whoever is this command's subreaper. Both raise VMError.
    """
    vm.validate()
    os.makedirs(state_dir, mode=0o700)
    log_path = os.path.join(state_dir, "sandbox.log")
    if keep <= 0 or vm.template == "off" or os.geteuid() != 0:
        return _launch(sandbox_id, state_dir, vm, group, log_path)
    from ..sandbox.keeper import Keeper

    keeper = Keeper()
    request = {
        "id": sandbox_id,
        "state_dir": state_dir,
        "vm": vm.to_json(),
        **place.describe(group),
    }
    events, stdout = os.pipe2(os.O_CLOEXEC)
    try:
        with open(log_path, "wb") as log:
            started = keeper.start_sandbox(request, keep, stdout, log.fileno())
    finally:
        os.close(stdout)

    def wait() -> None:
        with open(events, "rb") as said:
            line = said.readline() if started else b""
        if line:
            _check(line, log_path)
            return
        if started:
            _forget(state_dir)
        _launch(sandbox_id, state_dir, vm, group, log_path)()
        keeper.start(vm, keep)

    return wait


def _forget(state_dir: str) -> None:
    """Nothing is left of a sandbox that ended before it said anything."""
    kill_launched(state_dir)
    for name in (STATE, SOCKET):
        try:
            os.unlink(os.path.join(state_dir, name))
        except FileNotFoundError:
            continue


def _launch(
    sandbox_id: str, state_dir: str, vm: VMConfig, group: list[str], log_path: str
) -> Callable[[], None]:
    import subprocess

    with open(log_path, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", _MODULE, state_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    assert process.stdin is not None
    # Without the request that follows it starts nothing, and ends when this command does.
    cgroups.enter(group, process.pid)
    started = processes.start_time(process.pid) or 0
    write_atomic(os.path.join(state_dir, place.LAUNCHED), f"{process.pid} {started}".encode())
    process.stdin.write(json.dumps({"id": sandbox_id, "vm": vm.to_json()}).encode())
    process.stdin.close()

    def wait() -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.stdout.close()
        _check(line, log_path)

    return wait


def _check(line: bytes, log_path: str) -> None:
    """Raises what the sandbox's first line says, unless it listens."""
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
        with open(os.path.join(state_dir, place.LAUNCHED)) as file:
            pid, started = map(int, file.read().split())
    except FileNotFoundError:
        return
    processes.kill_and_wait(pid, started, signals.SIGKILL, _KILL_BOUND)
