"""Ends of sandboxes: waiting for one, forcing one, reading what it left."""

import asyncio
import logging
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from ..errors import HyperError, VMError
from ..sandbox import ExitStatus, SandboxClient, SandboxState, end_orphans, read_state
from ..system import processes

log = logging.getLogger(__name__)

_END_BOUND = 15.0
_KILL_BOUND = 10.0
_RETRY = 0.2


async def exit_of(client: SandboxClient, cid: str) -> ExitStatus:
    """How a container ended, from its sandbox or from what that left; waits for it."""
    while True:
        try:
            return await client.wait(cid)
        except HyperError as error:
            state = read_state(client.state_dir)
            if state is None or not state["alive"]:
                return exit_from_state(state, cid)
            if error.code == "not_found":
                return ExitStatus(137, 9, False, "the sandbox does not know it", "")
            await asyncio.sleep(_RETRY)


def exit_from_state(state: SandboxState | None, cid: str) -> ExitStatus:
    """How a container ended, from the state of a sandbox that is gone."""
    left = (state or {}).get("containers", {}).get(cid)
    if left is None or left["status"] != "stopped":
        reason = str((state or {}).get("reason") or "its virtual machine is gone")
        return ExitStatus(137, 9, False, reason, "")
    code = left["exit_code"]
    return ExitStatus(
        137 if code is None else int(code),
        int(left["signal"] or 0),
        bool(left["oom"]),
        str(left["reason"] or ""),
        str(left["finished_at"] or ""),
    )


async def wait_process(pid: int, started: int | None, timeout: float) -> bool:
    """Wait at most `timeout` seconds for the end of a process; returns whether it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        if started is None or not processes.alive(pid, started):
            return True
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return True


async def end_sandbox(state_dir: Path, *, patience: float = _END_BOUND) -> None:
    """Let a sandbox end by itself for `patience` seconds, else end it; then remove its directory.

    Raises VMError when its process can't be ended.
    """
    state = read_state(state_dir)
    if state is not None and state["alive"]:
        pid, started = int(state["pid"]), state["started"]
        if not await wait_process(pid, started, patience):
            try:
                async with asyncio.timeout(_KILL_BOUND):
                    await SandboxClient(state_dir).kill()
            except (HyperError, TimeoutError):
                pass
        if not await wait_process(pid, started, _KILL_BOUND):
            await asyncio.to_thread(
                processes.kill_and_wait, pid, started, signal.SIGKILL, _KILL_BOUND
            )
    if state is not None:
        await _end_vmm(state)
    await clear_orphans()
    await asyncio.to_thread(remove_tree, state_dir)


async def clear_orphans() -> None:
    """End the virtual machines of which nobody is left, if the hypervisor has some."""
    try:
        for name in await asyncio.to_thread(end_orphans):
            log.warning("ended the virtual machine %s, whose sandbox was killed", name)
    except HyperError as error:
        log.error("virtual machines whose sandbox was killed: %s", error)


async def _end_vmm(state: SandboxState) -> None:
    pid, started = int(state.get("vmm_pid") or 0), state.get("vmm_started")
    signum = int(state.get("vmm_end_signal") or signal.SIGKILL)
    if not pid or started is None or not processes.alive(pid, started):
        return
    if not await asyncio.to_thread(processes.kill_and_wait, pid, started, signum, _KILL_BOUND):
        raise VMError(f"the virtual machine of {state['id']} (pid {pid}) can't be killed")


def remove_log(path: Path) -> None:
    """Remove a log that is not in its container's directory, and the pod's directory of logs."""
    with suppress(OSError):
        for file in (path, *path.parent.glob(path.name + ".*")):
            file.unlink(missing_ok=True)
        path.parent.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a directory and what is in it; no error when it is gone already."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
