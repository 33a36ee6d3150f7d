"""What a client of the CRI's streaming server does: exec, attach and port-forward by websocket.

The server listens on loopback in the network namespace of containerd. The protocol is Kubernetes':
each binary message begins with the number of its channel (`v4.channel.k8s.io`).
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import aiohttp

from hypercontainer.system.threads import in_network_namespace
from tests.engines.network_namespace import NetworkNamespace

T = TypeVar("T")
_BOUND = 90.0
_PROTOCOL = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


class Ended(NamedTuple):
    """What a streamed command said, and the status in which it ended."""

    out: bytes
    err: bytes
    status: dict[str, Any]

    @property
    def code(self) -> int:
        """Its exit code, -1 when there is none."""
        if self.status.get("status") == "Success":
            return 0
        causes = self.status.get("details", {}).get("causes", [])
        return int(next((c["message"] for c in causes if c["reason"] == "ExitCode"), -1))


class Stream:
    """One websocket with channels."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse") -> None:
        self._socket = socket

    async def send(self, channel: int, data: bytes) -> None:
        """Send to a channel."""
        await self._socket.send_bytes(bytes([channel]) + data)

    async def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a size."""
        await self.send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message that is not empty; None at the end."""
        while True:
            message = await self._socket.receive()
            if message.type != aiohttp.WSMsgType.BINARY:
                return None
            if len(message.data) > 1:
                return message.data[0], message.data[1:]

    async def read_until(self, channel: int, text: bytes) -> bytes:
        """Read a channel until `text` was in it."""
        said = b""
        while text not in said:
            received = await self.receive()
            assert received is not None, said
            if received[0] == channel:
                said += received[1]
        return said

    async def rest(self) -> Ended:
        """All until the end."""
        parts: dict[int, bytes] = {STDOUT: b"", STDERR: b"", ERROR: b""}
        while received := await self.receive():
            channel, data = received
            parts[channel] = parts.get(channel, b"") + data
        return Ended(parts[STDOUT], parts[STDERR], json.loads(parts[ERROR] or b"{}"))


def streaming(namespace: NetworkNamespace, url: str, work: Callable[[Stream], Awaitable[T]]) -> T:
    """Do `work` with the stream at `url`, in the network namespace of the server."""

    async def connected() -> T:
        async with asyncio.timeout(_BOUND), _opened(url) as stream:
            return await work(stream)

    descriptor = os.open(f"/run/netns/{namespace.name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return in_network_namespace(descriptor, lambda: asyncio.run(connected()))
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Stream]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=[_PROTOCOL], max_msg_size=0) as socket,
    ):
        yield Stream(socket)
