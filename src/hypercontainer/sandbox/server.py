"""The sandbox's socket: one JSON request a connection, one JSON answer, then maybe a stream."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .. import __version__
from ..errors import BadRequest, HyperError, NotSupported, to_wire
from ..guest.device_rules import device_program
from ..guest.protocol import Code
from ..guest.resources import cgroup_files
from .attach import Attachment
from .containers import INIT
from .files import begin_archive
from .passed_process import PassedProcess
from .request import REQUEST_BOUND, Request, peer_gone, read_request
from .rest import Rest
from .sandbox import Sandbox

_DELIVERY_BOUND = 600.0
_ANSWER_BOUND = 2.0

Handler = Callable[[Request], Awaitable[dict[str, Any] | None]]


class Server:
    """Serves the requests of one sandbox."""

    def __init__(self, sandbox: Sandbox, shutdown: Callable[[float], Awaitable[None]]) -> None:
        self._sandbox = sandbox
        self._shutdown = shutdown
        self._active: set[asyncio.Task[None]] = set()
        self._attachments: set[Attachment] = set()
        self._passed: set[asyncio.Task[None]] = set()
        self._rest = Rest()
        sandbox.listeners.add(lambda event: self._rest.stir())
        self._handlers: dict[str, Handler] = {
            "info": self._info,
            "create": self._create,
            "start": self._start,
            "exec": self._exec,
            "archive": self._archive,
            "signal": self._signal,
            "resize": self._resize,
            "wait": self._wait,
            "attach": self._attach,
            "close_stdin": self._close_stdin,
            "process": self._process,
            "processes": self._processes,
            "stats": self._stats,
            "update": self._update,
            "grow": self._grow,
            "plug_cpus": self._plug_cpus,
            "freeze": self._freeze,
            "pause": self._pause,
            "vm_size": self._vm_size,
            "snapshot": self._snapshot,
            "proceed": self._proceed,
            "remove": self._remove,
            "network": self._network,
            "plug": self._plug,
            "unplug": self._unplug,
            "publish": self._publish,
            "unpublish": self._unpublish,
            "services": self._services,
            "shutdown": self._stop,
            "events": self._events,
        }

    async def serve(self, path: str) -> None:
        """Accept connections for ever."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            # Past the 108 bytes that a socket's address may have, by way of the directory.
            listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        os.chmod(path, 0o600)
        listener.listen(256)
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._handle(sock))
            self._active.add(task)
            task.add_done_callback(self._active.discard)

    async def drain(self, timeout: float) -> None:
        """Let output and answers out once the VM is gone.

        Readers of output may take up to 10 minutes, until somebody wants the
        sandbox gone; the peers of all else `timeout` seconds.
        """
        attached = (asyncio.create_task(a.delivered()) for a in self._attachments)
        await self._until({*self._passed, *attached}, _DELIVERY_BOUND)
        await self._until(self._active, timeout)
        self._accepting.cancel()
        for attachment in self._attachments:
            attachment.abort()
        await self._until(self._active, _ANSWER_BOUND, unless_abandoned=False)

    async def _until(
        self,
        tasks: Iterable[asyncio.Task[None]],
        timeout: float,
        *,
        unless_abandoned: bool = True,
    ) -> None:
        """Wait at most `timeout` seconds for all of `tasks`, or until the sandbox is abandoned."""
        waiting = asyncio.gather(*tasks, return_exceptions=True)
        abandoned = asyncio.create_task(self._sandbox.abandoned.wait())
        ends: list[asyncio.Future[Any]] = [waiting, *([abandoned] if unless_abandoned else [])]
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        abandoned.cancel()

    async def _handle(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        request: Request | None = None
        try:
            request = await asyncio.wait_for(read_request(sock), REQUEST_BOUND)
            await self._sandbox.has_its_vm.wait()
            await self._serve(request)
        except HyperError as error:
            await _refuse(sock, error)
        except (OSError, EOFError):
            pass
        finally:
            for fd in request.fds if request else []:
                os.close(fd)
            sock.close()
            self._rest.stir()

    async def _serve(self, request: Request) -> None:
        """Raises HyperError for whatever goes wrong, and ConnectionError when the peer is gone."""
        op = request.text("op")
        handler = self._handlers.get(op)
        if handler is None:
            raise NotSupported(
                f"the virtual machine was started by hypercontainer {__version__}, which does not"
                f" know the request {op!r}: stop its containers and start them again"
            )
        try:
            result = await handler(request)
            if result is not None:
                await request.answer(result)
        except ConnectionError:
            raise
        except OSError as error:
            raise HyperError(f"{op} failed: {error or 'time-out'}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadRequest(f"malformed request: {error!r}") from error

    async def _info(self, request: Request) -> dict[str, Any]:
        return self._sandbox.to_json()

    async def _create(self, request: Request) -> dict[str, Any]:
        body = request.body
        if body.get("follows"):
            await self._sandbox.network_begun()
        container = await self._sandbox.create_container(
            request.text("container"),
            request.object("config"),
            request.object("rootfs"),
            list(body.get("files") or []),
            body.get("log"),
            bool(body.get("stdin", False)),
            join=body.get("join") or {},
            auxiliary=bool(body.get("auxiliary", False)),
        )
        container.group = [str(directory) for directory in body.get("group") or []]
        self._carry(request, container.cid, INIT)
        if body.get("start"):
            if body.get("follows"):
                await self._sandbox.network_followed()
            await self._sandbox.start_container(container.cid)
        return {"pid": container.guest_pid}

    async def _start(self, request: Request) -> dict[str, Any]:
        await self._sandbox.start_container(request.text("container"))
        return {}

    async def _exec(self, request: Request) -> dict[str, Any]:
        body = request.body
        pid = await self._sandbox.exec(
            request.text("container"),
            request.text("process"),
            request.object("spec"),
            stdin=bool(body.get("stdin", False)),
            detach=bool(body.get("detach", False)),
        )
        self._carry(request, request.text("container"), request.text("process"))
        return {"pid": pid}

    async def _archive(self, request: Request) -> dict[str, Any]:
        cid, pid = request.text("container"), request.text("process")
        await begin_archive(self._sandbox, cid, pid, request.object("archive"))
        return {}

    def _carry(self, request: Request, cid: str, pid: str) -> None:
        """Put a process on the descriptors that came with its request."""
        names = request.body.get("fds") or []
        if not names:
            return
        if not isinstance(names, list) or len(names) != len(request.fds):
            raise BadRequest(f"fds: {len(request.fds)} descriptors came for {names!r}")
        process = self._sandbox.containers.get(cid).process(pid)
        passed = PassedProcess(self._sandbox, cid, process, names, request.fds)
        task = asyncio.create_task(passed.run())
        self._passed.add(task)
        task.add_done_callback(self._passed.discard)

    async def _signal(self, request: Request) -> dict[str, Any]:
        signum = request.body.get("signal")
        if not isinstance(signum, int) or not 1 <= signum <= 64:
            raise BadRequest(f"signal: {signum!r} is not between 1 and 64")
        await self._sandbox.signal(
            request.text("container"),
            request.text("process", INIT),
            signum,
            to_all=bool(request.body.get("all", False)),
        )
        return {}

    async def _resize(self, request: Request) -> dict[str, Any]:
        rows, cols = int(request.body["rows"]), int(request.body["cols"])
        if not (0 <= rows <= 65535 and 0 <= cols <= 65535):
            raise BadRequest(f"window size {rows}x{cols} is out of range")
        cid, pid = request.text("container"), request.text("process", INIT)
        self._sandbox.containers.get(cid).process(pid)
        await self._sandbox.vm.request(
            Code.WINSIZE, {"container": cid, "process": pid, "rows": rows, "cols": cols}
        )
        return {}

    async def _wait(self, request: Request) -> dict[str, Any] | None:
        container = self._sandbox.containers.get(request.text("container"))
        process = container.process(request.text("process", INIT))
        gone = asyncio.create_task(peer_gone(request.sock))
        waited: list[asyncio.Future[Any]] = [process.finished, gone]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        return dict(process.finished.result()) if process.finished.done() else None

    async def _attach(self, request: Request) -> None:
        container = self._sandbox.containers.get(request.text("container"))
        process = container.process(request.text("process", INIT))
        close_stdin = request.body.get("close_stdin")
        attachment = await Attachment.open(
            request.sock.dup(),
            process,
            stdin=bool(request.body.get("stdin", False)),
            close_stdin=not process.terminal if close_stdin is None else bool(close_stdin),
        )
        self._attachments.add(attachment)
        try:
            log = container.log if request.body.get("mark") else None
            attachment.begin(log.mark() if log else {})
            feeding = asyncio.create_task(attachment.feed())
            await attachment.closed.wait()
            await asyncio.wait([feeding], timeout=REQUEST_BOUND)
            feeding.cancel()
        finally:
            self._attachments.discard(attachment)

    async def _close_stdin(self, request: Request) -> dict[str, Any]:
        container = self._sandbox.containers.get(request.text("container"))
        process = container.process(request.text("process", INIT))
        if process.stdin is not None:
            process.stdin.close()
        return {}

    async def _process(self, request: Request) -> dict[str, Any]:
        container = self._sandbox.containers.get(request.text("container"))
        return container.process(request.text("process")).to_json()

    async def _processes(self, request: Request) -> dict[str, Any]:
        answer = await self._query(Code.LISTPROCESSES, request)
        processes = answer.get("processes")
        return {"processes": processes if isinstance(processes, list) else []}

    async def _stats(self, request: Request) -> dict[str, Any]:
        answer = await self._query(Code.STATS, request)
        files = answer.get("files")
        return {"files": files if isinstance(files, dict) else {}}

    async def _query(self, code: Code, request: Request) -> dict[str, Any]:
        cid = request.text("container")
        self._sandbox.containers.get(cid)
        return await self._sandbox.vm.request(code, {"container": cid})

    async def _update(self, request: Request) -> dict[str, Any]:
        cid = request.text("container")
        self._sandbox.containers.get(cid)
        resources = request.object("resources")
        message: dict[str, Any] = {"container": cid, "cgroup": cgroup_files(resources)}
        if resources.get("devices"):
            message["device_rules"] = device_program(resources)
        await self._sandbox.vm.request(Code.UPDATECONTAINER, message)
        return {}

    async def _grow(self, request: Request) -> dict[str, Any]:
        from .growing import grow

        return {"memory_mib": await grow(self._sandbox, int(request.body["memory_mib"]))}

    async def _plug_cpus(self, request: Request) -> dict[str, Any]:
        from .growing_cpus import plug

        return {"cpus": await plug(self._sandbox, int(request.body["cpus"]))}

    async def _freeze(self, request: Request) -> dict[str, Any]:
        await self._sandbox.freeze(request.text("container"), bool(request.body["frozen"]))
        return {}

    async def _pause(self, request: Request) -> dict[str, Any]:
        await self._sandbox.pause(bool(request.body["paused"]))
        return {}

    async def _vm_size(self, request: Request) -> dict[str, Any]:
        wanted = (request.body.get(key) for key in ("cpus", "memory_mib"))
        cpus, memory = (value if isinstance(value, int) else None for value in wanted)
        await self._sandbox.set_vm_size(cpus, memory)
        return {}

    async def _snapshot(self, request: Request) -> dict[str, Any]:
        from .snapshot import take

        if len(request.fds) != 1:
            raise BadRequest("snapshot: the descriptor of a file for the memory is needed")
        disks, stay = (bool(request.body.get(key)) for key in ("disks", "stay"))
        directory = request.text("directory")
        return await take(self._sandbox, directory, request.fds[0], disks=disks, stay=stay)

    async def _proceed(self, request: Request) -> dict[str, Any]:
        from .resume import proceed

        await asyncio.shield(self._sandbox.ready)
        await proceed(self._sandbox, request.object("containers"))
        return {}

    async def _remove(self, request: Request) -> dict[str, Any]:
        await self._sandbox.remove_container(
            request.text("container"), force=bool(request.body.get("force", False))
        )
        return {}

    async def _network(self, request: Request) -> dict[str, Any]:
        if len(request.fds) != 1:
            raise BadRequest("network: the descriptor of a network namespace is needed")
        loopback = bool(request.body.get("loopback", False))
        await self._sandbox.follow_network(request.fds[0], loopback=loopback)
        return {}

    async def _plug(self, request: Request) -> dict[str, Any]:
        if len(request.fds) != 1:
            raise BadRequest("plug: the descriptor of a tap is needed")
        await asyncio.shield(self._sandbox.ready)
        await self._sandbox.cards.plug(request.object("card"), request.fds[0])
        self._sandbox.save()
        return {}

    async def _unplug(self, request: Request) -> dict[str, Any]:
        await self._sandbox.cards.unplug(request.text("device"))
        self._sandbox.save()
        return {}

    async def _publish(self, request: Request) -> dict[str, Any]:
        await self._sandbox.cards.publish(list(request.body["ports"]), request.text("target", ""))
        return {}

    async def _unpublish(self, request: Request) -> dict[str, Any]:
        await self._sandbox.cards.unpublish(list(request.body["ports"]))
        return {}

    async def _services(self, request: Request) -> dict[str, Any]:
        await asyncio.shield(self._sandbox.ready)
        services = {"services": list(request.body["services"])}
        await self._sandbox.vm.request(Code.SETSERVICES, services)
        return {}

    async def _stop(self, request: Request) -> dict[str, Any]:
        await self._shutdown(float(request.body.get("timeout", 0)))
        return {}

    async def _events(self, request: Request) -> None:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sandbox.listeners.add(queue.put_nowait)
        gone = asyncio.create_task(peer_gone(request.sock))
        try:
            await request.answer({})
            while not gone.done():
                getting = asyncio.create_task(queue.get())
                await asyncio.wait([getting, gone], return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    break
                event = getting.result()
                await request.answer(event)
                if event["type"] == "stopped":
                    break
        finally:
            gone.cancel()
            self._sandbox.listeners.discard(queue.put_nowait)


async def _refuse(sock: socket.socket, error: HyperError) -> None:
    data = json.dumps({"error": to_wire(error)}).encode() + b"\n"
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, data), 5.0)
    except (OSError, TimeoutError):
        sys.stderr.write(f"answer lost: {error.message}\n")
