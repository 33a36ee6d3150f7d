"""The state file of a sandbox: valid while it lives and after it is gone."""

import json
import os
from typing import Any

from ..system import processes
from ..system.files import write_atomic

SOCKET = "sandbox.sock"
STATE = "state.json"
CONSOLE_LOG = "console.log"

SandboxState = dict[str, Any]


def read_state(state_dir: str | os.PathLike[str]) -> SandboxState | None:
    """The last state that the sandbox of `state_dir` wrote; None without one that can be read.

    `alive` says whether its process runs. When it does not although the state
    says otherwise, the sandbox was killed: its VM died with it, and the status
    of it and of its containers is given as `stopped`, code 137.
    """
    try:
        with open(os.path.join(state_dir, STATE), "rb") as file:
            state: SandboxState = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(state, dict):
        return None
    state["alive"] = processes.alive(state["pid"], state["started"])
    if not state["alive"] and state["status"] != "stopped":
        _mark_killed(state)
    return state


def _mark_killed(state: SandboxState) -> None:
    state["status"] = "stopped"
    state["reason"] = "the sandbox process was killed"
    for container in state["containers"].values():
        if container["status"] != "stopped":
            container.update(
                status="stopped", exit_code=137, signal=9, reason="the sandbox process was killed"
            )


def write_state(state_dir: str, state: SandboxState) -> None:
    """Replace the state file in one step."""
    write_atomic(os.path.join(state_dir, STATE), json.dumps(state).encode())
