"""The state file of a sandbox: valid while it lives and after it is gone."""

import os

from ..quick import json
from ..quick.types import Any
from ..system import processes
from ..system.files import write_atomic

SOCKET = "sandbox.sock"
STATE = "state.json"
CONSOLE_LOG = "console.log"
HOST_RESTARTED = "the host was restarted"

# What the requests of a sandbox's socket mean. A request that is added changes nothing for those
# who don't make it; one that changes its meaning takes another PROTOCOL, and a client that can't
# speak the older one any more another OLDEST_PROTOCOL.
PROTOCOL = 1
OLDEST_PROTOCOL = 1

SandboxState = dict[str, Any]


def read_state(state_dir: str | os.PathLike[str]) -> SandboxState | None:
    """The last state that the sandbox of `state_dir` wrote; None without one that can be read.

    `alive` says whether its process runs. When it does not although the state
    says otherwise, the sandbox was killed: its VM died with it, and the status
    of it and of its containers is given as `stopped`, code 137; or 255 when the
    state is of another boot of the host.
    """
    try:
        with open(os.path.join(state_dir, STATE), "rb") as file:
            state: SandboxState = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(state, dict):
        return None
    boot = processes.boot_id()
    if state.get("boot", boot) != boot:
        state.update(alive=False, vmm_pid=0)
        if state["status"] != "stopped":
            _mark_ended(state, HOST_RESTARTED, code=255, signal=0)
        return state
    state["alive"] = processes.alive(state["pid"], state["started"])
    if not state["alive"] and state["status"] != "stopped":
        _mark_ended(state, "the sandbox process was killed", code=137, signal=9)
    return state


def _mark_ended(state: SandboxState, reason: str, *, code: int, signal: int) -> None:
    state["status"] = "stopped"
    state["reason"] = reason
    for container in state["containers"].values():
        if container["status"] != "stopped":
            container.update(status="stopped", exit_code=code, signal=signal, reason=reason)


def write_state(state_dir: str, state: SandboxState) -> None:
    """Replace the state file in one step."""
    write_atomic(os.path.join(state_dir, STATE), json.dumps(state).encode())
