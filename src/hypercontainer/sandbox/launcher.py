"""Starting a sandbox process."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ..errors import Conflict, HyperError, VMError, from_wire
from ..system.processes import kill_and_wait
from .client import SandboxClient
from .config import VMConfig
from .containers import check_id
from .resume import write_request
from .state import SOCKET, STATE, read_state
from .zygote import Zygote

_MODULE = "hypercontainer.sandbox.process"
_LOG = "sandbox.log"
# The sandbox bounds the boot itself; this one is for a sandbox that hangs.
_BOUND = 600.0
_END_BOUND = 5.0


async def launch(
    sandbox_id: str,
    state_dir: Path,
    vm: VMConfig,
    *,
    wait: bool = True,
    zygote: Zygote | None = None,
    keep: int = 0,
    resume: dict[str, Any] | None = None,
) -> SandboxClient:
    """Start a sandbox and its VM; the process outlives the caller.

    Returns when the guest answers, or with `wait` false as soon as requests
    can be sent, which then wait for the guest themselves. A `zygote` makes it
    quicker, and keeps `keep` VMs like this one ready for the next few minutes.
    With `resume` (see `sandbox.resume`) the VM goes on from a snapshot.
    Raises VMError (with the console's last line), BadRequest, Conflict when
    `state_dir` has a live sandbox.
    """
    check_id("sandbox", sandbox_id)
    vm.validate()
    _prepare(state_dir, resume)
    event = "ready" if wait else "listening"
    request = {"id": sandbox_id, "vm": vm.to_json(), "resume": resume is not None}
    try:
        await _start(request, state_dir, vm, event, zygote, keep)
    except _EndedSilentlyError:
        if zygote is None:
            raise
        _prepare(state_dir, resume)
        await _start(request, state_dir, vm, event, None, 0)
    return SandboxClient(state_dir)


class _EndedSilentlyError(VMError):
    """The sandbox process ended before it said anything."""


async def _start(
    request: dict[str, Any],
    state_dir: Path,
    vm: VMConfig,
    event: str,
    zygote: Zygote | None,
    keep: int,
) -> None:
    log = os.open(state_dir / _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    events, stdout = os.pipe2(os.O_CLOEXEC)
    try:
        if not _fork(zygote, request, state_dir, vm, stdout, log, keep):
            await _execute(request, state_dir, stdout, log)
    except BaseException:
        os.close(events)
        raise
    finally:
        os.close(log)
        os.close(stdout)
    try:
        async with asyncio.timeout(_BOUND):
            await _until(events, event, state_dir)
    except HyperError:
        if not await asyncio.to_thread(_end, state_dir, 0, _END_BOUND):
            _end(state_dir, signal.SIGKILL, _END_BOUND)
        raise
    except BaseException:
        _end(state_dir, signal.SIGKILL, _END_BOUND)
        raise


def _end(state_dir: Path, signum: int, timeout: float) -> bool:
    """Signal the sandbox that a failed launch left and wait for its end, and its VM's with it."""
    state = read_state(state_dir)
    if state is None or not state["alive"]:
        return True
    return kill_and_wait(state["pid"], state["started"], signum, timeout)


def _prepare(state_dir: Path, resume: dict[str, Any] | None) -> None:
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = read_state(state_dir)
    if state is not None and state["alive"]:
        raise Conflict(f"a sandbox runs in {state_dir} already (pid {state['pid']})")
    for name in (STATE, SOCKET):
        (state_dir / name).unlink(missing_ok=True)
    if resume is not None:
        write_request(str(state_dir), resume)


def _fork(
    zygote: Zygote | None,
    request: dict[str, Any],
    state_dir: Path,
    vm: VMConfig,
    stdout: int,
    log: int,
    keep: int,
) -> bool:
    if zygote is None:
        return False
    try:
        zygote.fork(request, state_dir, vm, stdout, log, keep=keep)
    except OSError:
        return False
    return True


async def _execute(request: dict[str, Any], state_dir: Path, stdout: int, log: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", _MODULE, str(state_dir)),
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        stderr=log,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode())
    process.stdin.close()


async def _until(events: int, event: str, state_dir: Path) -> None:
    """Read the sandbox's lines until `event`. Raises its error."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(events, "rb", 0)
    )
    said_nothing = True
    try:
        while line := await reader.readline():
            said_nothing = False
            message: dict[str, Any] = json.loads(line)
            if "error" in message:
                raise from_wire(message["error"])
            if message.get("event") == event:
                return
    finally:
        transport.close()
    said = (state_dir / _LOG).read_text(errors="replace").strip()
    last = said.splitlines()[-1] if said else "it gave no reason"
    kind = _EndedSilentlyError if said_nothing else VMError
    raise kind(f"the sandbox process ended before its VM was up: {last}", detail=said[-4000:])
