"""The loopback of a pod's network namespace on the host, whose servers are in the guest.

Kubernetes' engines forward a port by connecting to 127.0.0.1 in the namespace. There the
kernel redirects each TCP connection to a relay, which has the guest connect to the same port
of its own loopback.
"""

import asyncio
import itertools
import socket
import struct
from typing import TYPE_CHECKING

from ..errors import HyperError, NotRunning
from ..guest.protocol import Code
from ..system.iproute import run
from ..system.tasks import Tasks
from ..system.threads import in_network_namespace
from .containers import Container, Process
from .passed import Streams

if TYPE_CHECKING:
    from .sandbox import Sandbox

_TABLE = "hyper-loopback"
_MAX_CONNECTIONS = 256
# For a server that goes on after its client's end of file.
_REST_BOUND = 3600.0
_SO_ORIGINAL_DST = 80
_RULES = """
table ip {table}
delete table ip {table}
table ip {table} {{
    chain output {{
        type nat hook output priority -100
        ip daddr 127.0.0.0/8 meta l4proto tcp redirect to :{port}
    }}
}}
"""


class LoopbackRelay:
    """Serves one namespace (a descriptor that its owner keeps open)."""

    def __init__(self, sandbox: "Sandbox", namespace: int) -> None:
        self._sandbox = sandbox
        self._namespace = namespace
        self._numbers = itertools.count(1)
        self._tasks = Tasks()

    async def start(self) -> None:
        """Listen, and redirect. Raises HyperError, OSError."""
        self._listener = await asyncio.to_thread(in_network_namespace, self._namespace, _listen)
        try:
            rules = _RULES.format(table=_TABLE, port=self._listener.getsockname()[1])
            await self._nft(rules)
        except BaseException:
            self._listener.close()
            raise
        self._tasks.spawn(self._accept())

    async def _nft(self, rules: str) -> None:
        await asyncio.to_thread(
            in_network_namespace, self._namespace, lambda: run("nft", "-f", "-", text=rules)
        )

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            client.setblocking(False)
            if len(self._tasks) > _MAX_CONNECTIONS:
                _reset(client)
            else:
                self._tasks.spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        try:
            container = _a_running_container(self._sandbox)
            name = f"connection-{next(self._numbers)}"
            process = await _connect(self._sandbox, container, name, _wanted_port(client))
        except (HyperError, OSError):
            # As a host does at whose port nobody listens.
            _reset(client)
            return
        with client:
            try:
                await self._carry(client, container, process)
            finally:
                container.processes.pop(process.pid, None)
                process.release()

    async def _carry(self, client: socket.socket, container: Container, process: Process) -> None:
        streams = Streams(process, ["stdin", "stdout"], [client.fileno(), client.fileno()])
        feeding = streams.begin()
        assert feeding is not None
        delivered = self._tasks.spawn(streams.flush())
        gone = self._tasks.spawn(streams.lost())
        try:
            await asyncio.wait([feeding, delivered, gone], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(
                [delivered, gone], timeout=_REST_BOUND, return_when=asyncio.FIRST_COMPLETED
            )
            if delivered.done():
                client.shutdown(socket.SHUT_WR)
            if not process.exiting:
                await self._sandbox.vm.request(
                    Code.SIGNALPROCESS,
                    {"container": container.cid, "process": process.pid, "signal": 9},
                )
        except (HyperError, OSError):
            pass
        finally:
            for task in (feeding, delivered, gone):
                task.cancel()
            streams.close()

    async def stop(self) -> None:
        """Redirect no more, and end what goes through."""
        self._tasks.cancel()
        self._listener.close()
        try:
            await self._nft(f"delete table ip {_TABLE}")
        except (HyperError, OSError):
            pass


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _wanted_port(client: socket.socket) -> int:
    """Where a redirected connection was to go (struct sockaddr_in). Raises OSError."""
    address = client.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, 16)
    port: int = struct.unpack_from("!2xH", address)[0]
    return port


def _reset(client: socket.socket) -> None:
    """Close with a RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _a_running_container(sandbox: "Sandbox") -> Container:
    """Any: they share the VM's loopback. Raises NotRunning."""
    for container in sandbox.containers:
        if container.status in ("created", "running", "paused"):
            found: Container = container
            return found
    raise NotRunning("no container of the virtual machine is running")


async def _connect(sandbox: "Sandbox", container: Container, pid: str, port: int) -> Process:
    """Have hyperstart connect (docs/guest-protocol.md, "Connections"). Raises HyperError."""
    process = Process(sandbox.vm.streams, pid, terminal=False, stdin=True, hold=True)
    container.processes[pid] = process
    message = {
        "id": pid,
        "connect": port,
        "stdio": process.stdio,
        "stderr": process.stderr,
        "stdin": True,
    }
    try:
        await sandbox.vm.request(Code.EXECCMD, {"container": container.cid, "process": message})
    except BaseException:
        container.processes.pop(pid, None)
        process.release()
        raise
    return process
