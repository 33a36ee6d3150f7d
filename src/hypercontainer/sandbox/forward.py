"""Published ports passed on by the sandbox: what the kernel's translation does not cover.

That is ::1, IPv6 clients of a container that has only IPv4, and everything on
a host whose firewall hyperd is told to leave alone. The sockets also keep the
port from other programs, and a port that another program has is noticed.
"""

import asyncio
import errno
import socket
from typing import Any

from ..errors import BadRequest, Conflict, HyperError
from ..system.tasks import Tasks

_CHUNK = 1 << 18
_CONNECT_BOUND = 10.0
_MAX_FLOWS = 1024
_UDP_IDLE = 90.0
_UNAVAILABLE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Forwarder:
    """One published port: its sockets on the host, and what goes through them."""

    def __init__(self, port: dict[str, Any], target: str) -> None:
        """`port` as in `networks.Port.to_json`; `target` is the container's address."""
        self._protocol = port["protocol"]
        self._port = int(port["host_port"])
        self._host_ip = str(port["host_ip"])
        self._target = (target, int(port["container_port"]))
        self._sockets: list[socket.socket] = []
        self._tasks = Tasks()

    def open(self) -> None:
        """Take the port. Raises Conflict when another program has it, HyperError."""
        hosts = [self._host_ip] if self._host_ip else ["0.0.0.0", "::"]
        try:
            for host in hosts:
                try:
                    self._sockets.append(bind(self._protocol, host, self._port))
                except OSError as error:
                    # A host without IPv6 publishes by IPv4.
                    if self._host_ip or host != "::" or error.errno not in _UNAVAILABLE:
                        raise refusal(error, self._protocol, host, self._port) from error
        except BaseException:
            self._close_sockets()
            raise
        serve = self._accept if self._protocol == "tcp" else self._receive
        for sock in self._sockets:
            self._tasks.spawn(serve(sock))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            client.setblocking(False)
            if len(self._tasks) >= _MAX_FLOWS:
                client.close()
            else:
                self._tasks.spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        with client, socket.socket(family, socket.SOCK_STREAM) as server:
            server.setblocking(False)
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                async with asyncio.timeout(_CONNECT_BOUND):
                    await loop.sock_connect(server, self._target)
                await asyncio.gather(_pump(client, server), _pump(server, client))
            except (OSError, TimeoutError):
                pass

    async def _receive(self, listener: socket.socket) -> None:
        """UDP: a socket for each client, as long as it is not idle."""
        loop = asyncio.get_running_loop()
        flows: dict[Any, socket.socket] = {}
        while True:
            try:
                data, client = await loop.sock_recvfrom(listener, 65536)
            except OSError:
                continue
            flow = flows.get(client)
            try:
                if flow is None:
                    if len(flows) >= _MAX_FLOWS:
                        continue
                    flow = flows[client] = self._flow()
                    self._tasks.spawn(_answers(flow, listener, client, flows))
                flow.send(data)
            except OSError:
                continue

    def _flow(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        flow = socket.socket(family, socket.SOCK_DGRAM)
        flow.setblocking(False)
        try:
            flow.connect(self._target)
        except OSError:
            flow.close()
            raise
        return flow

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def close(self) -> None:
        """Let the port go, and what goes through it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        self._close_sockets()


async def _pump(source: socket.socket, target: socket.socket) -> None:
    """One direction, to its end. Raises OSError."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(target, data)
    target.shutdown(socket.SHUT_WR)


async def _answers(
    flow: socket.socket, listener: socket.socket, client: Any, flows: dict[Any, socket.socket]
) -> None:
    loop = asyncio.get_running_loop()
    try:
        while True:
            async with asyncio.timeout(_UDP_IDLE):
                data = await loop.sock_recv(flow, 65536)
            await loop.sock_sendto(listener, data, client)
    except (OSError, TimeoutError):
        pass
    finally:
        flows.pop(client, None)
        flow.close()


def bind(protocol: str, host: str, port: int) -> socket.socket:
    """A socket at a port of the host, listening if it is TCP. Raises OSError."""
    kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    if protocol not in kinds:
        raise BadRequest(f"protocol: {protocol!r} is neither tcp nor udp")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kinds[protocol])
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if protocol == "tcp":
            sock.listen(256)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def refusal(error: OSError, protocol: str, host: str, port: int) -> HyperError:
    """Why a port can't be had."""
    shown = f"[{host}]" if ":" in host else host
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"publish {shown}:{port}/{protocol}: port is already allocated: choose another, or end"
            " the program that has it"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return BadRequest(f"publish {shown}:{port}/{protocol}: {host} is no address of this host")
    return HyperError(f"publish {shown}:{port}/{protocol}: {error.strerror}")
