"""Starting a sandbox process."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import Conflict, VMError, from_wire
from .client import SandboxClient
from .config import VMConfig
from .containers import check_id
from .state import read_state

_MODULE = "hypercontainer.sandbox.process"
_LOG = "sandbox.log"
# The sandbox bounds the boot itself; this one is for a sandbox that hangs.
_BOUND = 600.0


async def launch(
    sandbox_id: str, state_dir: Path, vm: VMConfig, *, wait: bool = True
) -> SandboxClient:
    """Start a sandbox and its VM; the process outlives the caller.

    Returns when the guest answers, or with `wait` false as soon as requests
    can be sent, which then wait for the guest themselves. Raises VMError (with
    the console's last line), BadRequest, Conflict when `state_dir` has a live
    sandbox.
    """
    check_id("sandbox", sandbox_id)
    vm.validate()
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = read_state(state_dir)
    if state is not None and state["alive"]:
        raise Conflict(f"a sandbox runs in {state_dir} already (pid {state['pid']})")
    for name in ("state.json", "sandbox.sock"):
        (state_dir / name).unlink(missing_ok=True)
    log = os.open(state_dir / _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", _MODULE, str(state_dir)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"id": sandbox_id, "vm": vm.to_json()}).encode())
    process.stdin.close()
    try:
        async with asyncio.timeout(_BOUND):
            await _until(process, "ready" if wait else "listening", state_dir)
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    return SandboxClient(state_dir)


async def _until(process: asyncio.subprocess.Process, event: str, state_dir: Path) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            await process.wait()
            raise from_wire(message["error"])
        if message.get("event") == event:
            return
    await process.wait()
    said = (state_dir / _LOG).read_text(errors="replace").strip()
    last = said.splitlines()[-1] if said else "it gave no reason"
    raise VMError(f"the sandbox process ended before its VM was up: {last}", detail=said[-4000:])
