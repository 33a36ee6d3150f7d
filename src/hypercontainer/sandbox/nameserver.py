"""A name server for the containers of a network, at the address of its bridge.

Each pod's sandbox in the network listens there, and the kernel gives a query
to any of them (SO_REUSEPORT): names need neither hyperd nor a process of their own.
"""

import asyncio
import socket
import struct
from typing import Any

from ..system.tasks import Tasks
from .records import Records, Verdict

_PORT = 53
_MAX_QUERIES = 256
_MAX_STREAMS = 64
_TRY_BOUND = 3.0
_STREAM_BOUND = 20.0


class NameServer:
    """Serves one address of one bridge."""

    def __init__(self, records: Records, bridge: str, address: str) -> None:
        self._records = records
        self._bridge = bridge
        self._address = address
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._tasks = Tasks()
        self._streams = 0

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._udp = self._socket(socket.SOCK_DGRAM)
        try:
            tcp = self._socket(socket.SOCK_STREAM)
        except OSError:
            self._udp.close()
            raise
        self._server = await asyncio.start_server(self._connected, sock=tcp)
        self._tasks.spawn(self._receive())

    def _socket(self, kind: socket.SocketKind) -> socket.socket:
        sock = socket.socket(self._family, kind)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Only the network's own containers are answered, whatever addresses the host has.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._bridge.encode())
            sock.setblocking(False)
            sock.bind((self._address, _PORT))
        except OSError:
            sock.close()
            raise
        return sock

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                query, client = await loop.sock_recvfrom(self._udp, 65536)
            except OSError:
                continue
            verdict = self._records.judge(query, self._bridge, client[0])
            if verdict.reply:
                await self._reply(verdict.reply, client)
            elif verdict.servers and len(self._tasks) < _MAX_QUERIES:
                self._tasks.spawn(self._ask(query, verdict.servers, client))

    async def _reply(self, reply: bytes, client: tuple[Any, ...]) -> None:
        try:
            await asyncio.get_running_loop().sock_sendto(self._udp, reply, client)
        except OSError:
            pass

    async def _ask(self, query: bytes, servers: tuple[str, ...], client: tuple[Any, ...]) -> None:
        for server in servers:
            try:
                async with asyncio.timeout(_TRY_BOUND):
                    reply = await _exchange(query, server)
            except (OSError, TimeoutError):
                continue
            await self._reply(reply, client)
            return

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client by TCP: one query after another."""
        self._streams += 1
        try:
            if self._streams > _MAX_STREAMS:
                return
            client = writer.get_extra_info("peername")[0]
            async with asyncio.timeout(_STREAM_BOUND):
                while True:
                    query = await _read_message(reader)
                    verdict = self._records.judge(query, self._bridge, client)
                    reply = verdict.reply or await _ask_by_tcp(query, verdict)
                    writer.write(struct.pack("!H", len(reply)) + reply)
                    await writer.drain()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            self._streams -= 1
            writer.close()

    def close(self) -> None:
        """Stop."""
        self._tasks.cancel()
        self._server.close()
        self._udp.close()


async def _exchange(query: bytes, server: str) -> bytes:
    """Ask a server by UDP from a port of its own. Raises OSError."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (server, _PORT))
        await loop.sock_sendall(sock, query)
        while True:
            reply = await loop.sock_recv(sock, 65536)
            if reply[:2] == query[:2]:
                return reply


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(size)


async def _ask_by_tcp(query: bytes, verdict: Verdict) -> bytes:
    """Raises OSError when no server answers."""
    for server in verdict.servers:
        try:
            async with asyncio.timeout(_TRY_BOUND):
                reader, writer = await asyncio.open_connection(server, _PORT)
                try:
                    writer.write(struct.pack("!H", len(query)) + query)
                    return await _read_message(reader)
                finally:
                    writer.close()
        except (OSError, EOFError, TimeoutError):
            continue
    raise OSError("no name server answered")
