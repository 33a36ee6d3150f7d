"""The asynchronous client of a sandbox process."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import NotFound, NotSupported, VMError, from_wire
from .containers import INIT
from .state import OLDEST_PROTOCOL, PROTOCOL, SOCKET, SandboxState, read_state

_CONNECT_BOUND = 10.0
_CALL_BOUND = 600.0
_LINE = 8 << 20
# What every version takes, so that a container can be followed and ended whoever started it.
_FOREVER = ("info", "wait", "attach", "signal", "remove", "shutdown", "events")


class ExitStatus(NamedTuple):
    """How a process ended: `code` is 128+n for a death by signal n; `reason` is for people."""

    code: int
    signal: int
    oom: bool
    reason: str
    finished_at: str


async def connect(state_dir: Path) -> "SandboxClient":
    """The sandbox that lives in `state_dir`. Raises NotFound when none does."""
    state = read_state(state_dir)
    if state is None or not state["alive"]:
        raise NotFound(f"no sandbox runs in {state_dir}")
    return SandboxClient(state_dir)


class SandboxClient:
    """Calls a sandbox, one connection a call; safe for concurrent use.

    Every method raises the sandbox's errors, and VMError when it is gone.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._protocol = 0

    def _check_protocol(self, op: str) -> None:
        """Raises NotSupported for what a sandbox of another version can't be asked."""
        if not self._protocol:
            state = read_state(self.state_dir) or {}
            self._protocol = int(state.get("protocol", OLDEST_PROTOCOL))
        if op in _FOREVER or OLDEST_PROTOCOL <= self._protocol <= PROTOCOL:
            return
        raise NotSupported(
            f"the virtual machine speaks protocol {self._protocol} of sandboxes, this version"
            f" {PROTOCOL}: stop its containers and start them again"
        )

    async def _open(
        self, request: dict[str, Any], bound: float | None
    ) -> tuple[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]:
        self._check_protocol(str(request["op"]))
        try:
            async with asyncio.timeout(_CONNECT_BOUND):
                reader, writer = await self._connect()
        except (OSError, TimeoutError) as error:
            raise VMError(f"the sandbox is gone: {self._last_reason()}") from error
        try:
            async with asyncio.timeout(bound):
                writer.write(json.dumps(request).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            if not line:
                raise VMError(f"the sandbox is gone: {self._last_reason()}")
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise from_wire(answer["error"])
        except ConnectionError as error:
            writer.close()
            raise VMError(f"the sandbox is gone: {self._last_reason()}") from error
        except (OSError, TimeoutError) as error:
            writer.close()
            raise VMError(f"the sandbox did not answer: {error or 'time-out'}") from error
        except BaseException:
            writer.close()
            raise
        return answer, reader, writer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Past the 108 bytes that a socket's address may have, by way of the directory."""
        directory = os.open(self.state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/{SOCKET}", limit=_LINE
            )
        finally:
            os.close(directory)

    def _last_reason(self) -> str:
        state = read_state(self.state_dir)
        return str(state["reason"]) if state and state["reason"] else "it does not answer"

    async def _call(
        self, op: str, bound: float | None = _CALL_BOUND, **request: Any
    ) -> dict[str, Any]:
        answer, _, writer = await self._open({"op": op, **request}, bound)
        writer.close()
        return answer

    async def info(self) -> SandboxState:
        """The sandbox's state."""
        return {**await self._call("info"), "alive": True}

    async def create_container(
        self,
        cid: str,
        config: dict[str, Any],
        rootfs: dict[str, Any],
        *,
        files: list[dict[str, Any]] | None = None,
        log: dict[str, Any] | None = None,
        stdin: bool = False,
        auxiliary: bool = False,
    ) -> None:
        """Create a container up to the point before its program runs.

        `config` is an OCI configuration; `rootfs` is `{"kind": "overlay",
        "lower": [{"path", "fstype"}, …], "upper": {…}}` with the top layer
        first, or `{"kind": "share", "path": directory}`; `files` are put over
        the image's; `log` is that of `logs.open_log`; an
        `auxiliary` container does not keep the VM alive.
        Raises ProgramError (exit code 126 or 127) and BadRequest.
        """
        await self._call(
            "create",
            container=cid,
            config=config,
            rootfs=rootfs,
            files=files or [],
            log=log,
            stdin=stdin,
            auxiliary=auxiliary,
        )

    async def start_container(self, cid: str) -> None:
        """Let a created container's program run."""
        await self._call("start", container=cid)

    async def exec(
        self,
        cid: str,
        pid: str,
        process: dict[str, Any],
        *,
        stdin: bool = False,
        detach: bool = False,
    ) -> None:
        """Run another process (an OCI process object) in a container.

        Its output waits for the first `attach`, unless `detach`. Raises
        ProgramError (exit code 126 or 127) and NotRunning.
        """
        await self._call(
            "exec", container=cid, process=pid, spec=process, stdin=stdin, detach=detach
        )

    async def archive(self, cid: str, pid: str, op: str, path: str = "/", **flags: bool) -> None:
        """Start to read or write files of a container; `attach` to `pid` takes the records.

        `op` is stat, get, put, upper or changes, `flags` are `follow` and `rootfs_only`.
        """
        request = {"op": op, "path": path, **flags}
        await self._call("archive", container=cid, process=pid, archive=request)

    async def close_stdin(self, cid: str, pid: str = INIT) -> None:
        """End the input of a process. Raises NotFound."""
        await self._call("close_stdin", container=cid, process=pid)

    async def process(self, cid: str, pid: str) -> dict[str, Any]:
        """A process of a container: `args`, `terminal`, `stdin`, and `exit` (None while it runs).

        Raises NotFound.
        """
        return await self._call("process", container=cid, process=pid)

    async def signal(self, cid: str, pid: str, signum: int, *, all: bool = False) -> None:
        """Signal one process (`init` is the container's first), or all. Raises NotRunning."""
        await self._call("signal", container=cid, process=pid, signal=signum, all=all)

    async def resize(self, cid: str, pid: str, rows: int, cols: int) -> None:
        """Set the size of a terminal."""
        await self._call("resize", container=cid, process=pid, rows=rows, cols=cols)

    async def wait(self, cid: str, pid: str = INIT) -> ExitStatus:
        """Wait, as long as it takes, for the end of a process and of its output."""
        answer = await self._call("wait", None, container=cid, process=pid)
        return ExitStatus(
            answer["code"],
            answer["signal"],
            answer["oom"],
            answer["reason"],
            answer["finished_at"],
        )

    async def attach(
        self, cid: str, pid: str = INIT, *, stdin: bool = True, close_stdin: bool | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the streams of a process.

        What is read is raw for a terminal, else Docker's stdcopy frames; its
        end means that the process is over. What is written goes to stdin; the
        end of it (`write_eof`) closes stdin if `close_stdin`, which defaults to
        true without a terminal. Closing leaves the process its stdin.
        """
        _, reader, writer = await self._attach(cid, pid, stdin, close_stdin=close_stdin)
        return reader, writer

    async def attach_after(
        self, cid: str, *, stdin: bool
    ) -> tuple[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]:
        """As `attach`, to a container's first process, with the place in its log up to which
        nothing of it comes: `inode`, `size`, `unfinished` (beginnings of lines by stream)."""
        return await self._attach(cid, INIT, stdin, mark=True)

    async def _attach(
        self, cid: str, pid: str, stdin: bool, **more: bool | None
    ) -> tuple[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]:
        request = {"op": "attach", "container": cid, "process": pid, "stdin": stdin, **more}
        return await self._open(request, _CALL_BOUND)

    async def processes(self, cid: str) -> list[dict[str, Any]]:
        """The container's processes as the guest lists them: pid, ppid, uid, cmd."""
        return list((await self._call("processes", container=cid))["processes"])

    async def stats(self, cid: str) -> dict[str, Any]:
        """The container's cgroup files by name."""
        return dict((await self._call("stats", container=cid))["files"])

    async def update(self, cid: str, resources: dict[str, Any]) -> None:
        """Change a container's limits (an OCI linux.resources object)."""
        await self._call("update", container=cid, resources=resources)

    async def grow(self, memory_mib: int) -> int:
        """Let the VM have at least so many MiB; returns what it has. See `growing.grow`."""
        return int((await self._call("grow", memory_mib=memory_mib))["memory_mib"])

    async def plug_cpus(self, count: int) -> int:
        """Let the VM have at least so many CPUs; returns how many it has. See
        `growing_cpus.plug`."""
        return int((await self._call("plug_cpus", cpus=count))["cpus"])

    async def pause(self) -> None:
        """Stop the VM's CPUs."""
        await self._call("pause", paused=True)

    async def resume(self) -> None:
        """Let the VM's CPUs go on."""
        await self._call("pause", paused=False)

    async def set_vm_size(self, *, cpus: int | None = None, memory_mib: int | None = None) -> None:
        """Let the VM have other CPUs and memory than it has; None is no change.

        Raises BadRequest, and NotSupported where its hypervisor can't.
        """
        await self._call("vm_size", cpus=cpus, memory_mib=memory_mib)

    async def snapshot(
        self, directory: str, memory: int, *, disks: bool, stay: bool = False
    ) -> dict[str, Any]:
        """Save the VM (see `sandbox.snapshot.take`); `memory` is a descriptor for its RAM."""
        from .calls import call

        request = {"directory": directory, "disks": disks, "stay": stay}
        return await asyncio.to_thread(call, str(self.state_dir), "snapshot", request, fds=[memory])

    async def proceed(self, containers: dict[str, dict[str, Any]]) -> None:
        """Let the containers of a VM that goes on from a snapshot run, with what they have of
        their own: payloads of RENEWCONTAINER (docs/guest-protocol.md)."""
        await self._call("proceed", containers=containers)

    async def freeze(self, cid: str, frozen: bool) -> None:
        """Pause or resume one container."""
        await self._call("freeze", container=cid, frozen=frozen)

    async def remove_container(self, cid: str, *, force: bool = False) -> None:
        """Unmount and forget a stopped container; with `force` kill it first."""
        await self._call("remove", container=cid, force=force)

    async def plug(self, card: dict[str, Any], tap: int) -> None:
        """Plug a network card (see `sandbox.cards`) on the tap of a descriptor."""
        from .calls import call

        state_dir = str(self.state_dir)
        await asyncio.to_thread(call, state_dir, "plug", {"card": card}, fds=[tap])

    async def unplug(self, device: str) -> None:
        """Take a network card away by its name in the guest. Raises NotFound."""
        await self._call("unplug", device=device)

    async def publish(self, ports: list[dict[str, Any]], target: str) -> None:
        """Take ports of the host for a container's address (see `sandbox.cards`)."""
        await self._call("publish", ports=ports, target=target)

    async def unpublish(self, ports: list[dict[str, Any]]) -> None:
        """Let ports of the host go."""
        await self._call("unpublish", ports=ports)

    async def set_services(self, services: list[dict[str, Any]]) -> None:
        """Replace the in-pod services (SETSERVICES of docs/guest-protocol.md)."""
        await self._call("services", services=services)

    async def shutdown(self, *, timeout: float = 10.0) -> None:
        """Power off in an orderly way within `timeout` seconds, else by force."""
        await self._call("shutdown", timeout + 30.0, timeout=timeout)

    async def kill(self) -> None:
        """End the VM at once; nothing is to do for one that has ended meanwhile."""
        try:
            await self._call("shutdown", 30.0, timeout=0)
        except VMError:
            state = read_state(self.state_dir)
            if state is not None and state["status"] != "stopped":
                raise

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The sandbox's events until it stops: `start`, `exit` and `stopped`."""
        _, reader, writer = await self._open({"op": "events"}, _CALL_BOUND)
        try:
            while line := await reader.readline():
                yield json.loads(line)
        finally:
            writer.close()
