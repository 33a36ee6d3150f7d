"""Shims: the processes that run tasks, started one a task (or a pod) and found again by address."""

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ...errors import HyperError, Timeout
from ...system.processes import kill_and_wait, start_time
from ..api import shim_task_pb2 as shim_api
from ..ttrpc.aio import AsyncClient
from ..ttrpc.status import CallError
from .bundles import shim_program
from .status import Remote

_SERVICE = "containerd.task.v2.Task"
_START_BOUND = 60.0
_DELETE_BOUND = 60.0
_CONNECT_BOUND = 10.0
_KILL_BOUND = 5.0
CALL_BOUND = 60.0
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Launcher:
    """Starts shims, and clears up after those that died."""

    address: Path
    """The socket of our gRPC."""
    debug: bool

    @property
    def events_socket(self) -> Path:
        """Where shims send their events."""
        return self.address.with_name(self.address.name + ".ttrpc")

    async def start(self, namespace: str, task_id: str, bundle: Path) -> "Shim":
        """Start a task's shim, or find that of its pod. Raises HyperError with what it says."""
        out = await self._run(namespace, task_id, bundle, "start", _START_BOUND)
        return await connect(out.decode(errors="replace").strip().removeprefix("unix://"))

    async def clear(self, namespace: str, task_id: str, bundle: Path) -> shim_api.DeleteResponse:
        """End what a shim that died has left of a task. Raises HyperError."""
        out = await self._run(namespace, task_id, bundle, "delete", _DELETE_BOUND)
        try:
            return shim_api.DeleteResponse.FromString(out)
        except DecodeError:
            raise HyperError(f"clear up after the shim of {task_id}: it says no protobuf") from None

    async def _run(
        self, namespace: str, task_id: str, bundle: Path, action: str, bound: float
    ) -> bytes:
        environment = {k: v for k, v in os.environ.items() if k != "MAX_SHIM_VERSION"}
        process = await asyncio.create_subprocess_exec(
            shim_program(),
            *("-namespace", namespace, "-address", str(self.address), "-id", task_id),
            *(("-bundle", str(bundle)) if action == "delete" else ()),
            *(("-debug",) if self.debug else ()),
            action,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=bundle,
            env={**environment, "TTRPC_ADDRESS": str(self.events_socket)},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(bound):
                out, errors = await process.communicate()
        except TimeoutError:
            raise Timeout(f"shim of {task_id}: no end of {action} in {bound:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            lines = errors.decode(errors="replace").strip().splitlines()
            text = lines[-1] if lines else f"it ended with status {process.returncode}"
            raise HyperError(f"shim of {task_id}: {text}")
        return out


async def connect(path: str) -> "Shim":
    """A shim that runs. Raises Remote (UNAVAILABLE)."""
    client = AsyncClient(path)
    try:
        await client.connect(_CONNECT_BOUND)
    except CallError as error:
        raise Remote(error.message, error.status_code) from None
    shim = Shim(client)
    try:
        answer = await shim.call(
            "Connect", shim_api.ConnectRequest(), shim_api.ConnectResponse, _CONNECT_BOUND
        )
    except BaseException:
        await shim.close()
        raise
    shim.process = (answer.shim_pid, start_time(answer.shim_pid) or 0)
    return shim


class Shim:
    """A connection to a shim."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.process = (0, 0)

    @property
    def path(self) -> str:
        """Its socket, which shims of pods share."""
        return self._client.path

    @property
    def lost(self) -> "asyncio.Future[None]":
        """Done once the connection is over."""
        return self._client.lost

    async def call(
        self, method: str, request: Message, answer: type[M], timeout: float | None = CALL_BOUND
    ) -> M:
        """One call of the Task service. Raises Remote with the shim's status code."""
        try:
            return await self._client.call(_SERVICE, method, request, answer, timeout)
        except CallError as error:
            raise Remote(error.message, error.status_code) from None

    async def end(self, timeout: float) -> None:
        """Wait for its end, and kill it when that does not come in time."""
        await asyncio.wait({self.lost}, timeout=timeout)
        pid, started = self.process
        if not self.lost.done() and pid:
            await asyncio.to_thread(kill_and_wait, pid, started, signal.SIGKILL, _KILL_BOUND)

    async def close(self) -> None:
        """End the connection; the shim goes on."""
        await self._client.close()
