"""Name servers on the loopback of the host's network namespace, such as Docker's, for a guest.

A guest's loopback is another one. So the container gets a copy of its
resolv.conf that names a link-local address instead; a tap of the VM has that
address, and a relay listens there.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable

from ..system.syscalls import inotify_writes
from ..system.tasks import Tasks
from ..system.threads import in_network_namespace

ADDRESS = "169.254.77.1"
_PORT = 53
_ANSWER_BOUND = 10.0
_MAX_QUERIES = 128
_IP_FREEBIND = 15


def localized(text: str) -> tuple[str, str]:
    """A resolv.conf as the guest should see it, and the loopback name server that it named."""
    server, lines = "", []
    for line in text.splitlines(keepends=True):
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_loopback(words[1]):
            if server:
                continue
            server = words[1]
            line = f"nameserver {ADDRESS}\n"
        lines.append(line)
    return "".join(lines), server


def _is_loopback(address: str) -> bool:
    try:
        return socket.inet_aton(address).startswith(b"\x7f")
    except OSError:
        return False


class ResolverFile:
    """A container's resolv.conf: a copy of the engine's, kept like it while that changes."""

    def __init__(self, source: str, copy: str, on_server: Callable[[str], None]) -> None:
        """`on_server` gets the loopback name server whenever that changes. Raises OSError."""
        self.copy = copy
        self.server = ""
        self._source = source
        self._on_server = on_server
        self._watch = inotify_writes(source)
        try:
            self._update()
        except BaseException:
            os.close(self._watch)
            raise
        asyncio.get_running_loop().add_reader(self._watch, self._changed)

    def _changed(self) -> None:
        os.read(self._watch, 65536)
        before = self.server
        try:
            self._update()
        except OSError as error:
            sys.stderr.write(f"{self._source}: {error.strerror}\n")
        if self.server not in ("", before):
            self._on_server(self.server)

    def _update(self) -> None:
        with open(self._source, errors="replace") as file:
            text, self.server = localized(file.read(1 << 16))
        # Written in place: the guest has this very file.
        with open(self.copy, "w") as file:
            file.write(text)

    def close(self) -> None:
        """Stop following, and remove the copy."""
        asyncio.get_running_loop().remove_reader(self._watch)
        os.close(self._watch)
        os.unlink(self.copy)


class Relay:
    """Passes DNS queries on to a server that only the network namespace reaches."""

    def __init__(self, namespace: int) -> None:
        """`namespace` is a descriptor of the network namespace; its owner keeps it open."""
        self.server = ""
        self._namespace = namespace
        self._tasks = Tasks()

    async def start(self) -> None:
        """Listen at ADDRESS. Raises OSError."""
        self._udp = await self._socket(socket.SOCK_DGRAM)
        self._tcp = await self._socket(socket.SOCK_STREAM)
        for listener in (self._udp, self._tcp):
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((ADDRESS, _PORT))
        self._tasks.spawn(self._receive())
        self._streams = await asyncio.start_server(self._connected, sock=self._tcp)

    async def _socket(self, kind: socket.SocketKind) -> socket.socket:
        sock = await asyncio.to_thread(
            in_network_namespace, self._namespace, lambda: socket.socket(socket.AF_INET, kind)
        )
        sock.setblocking(False)
        return sock

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            query, client = await loop.sock_recvfrom(self._udp, 65536)
            if len(self._tasks) < _MAX_QUERIES:
                self._tasks.spawn(self._ask(query, client))

    async def _ask(self, query: bytes, client: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            with await self._socket(socket.SOCK_DGRAM) as sock:
                async with asyncio.timeout(_ANSWER_BOUND):
                    await loop.sock_connect(sock, (self.server, _PORT))
                    await loop.sock_sendall(sock, query)
                    answer = await loop.sock_recv(sock, 65536)
                await loop.sock_sendto(self._udp, answer, client)
        except (OSError, TimeoutError):
            pass

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ANSWER_BOUND):
                sock = await self._socket(socket.SOCK_STREAM)
                await asyncio.get_running_loop().sock_connect(sock, (self.server, _PORT))
                up_reader, up_writer = await asyncio.open_connection(sock=sock)
                await asyncio.gather(_pass(reader, up_writer), _pass(up_reader, writer))
                up_writer.close()
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()

    def close(self) -> None:
        """Stop."""
        self._tasks.cancel()
        self._streams.close()
        self._udp.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
