"""A request to a sandbox: one line of JSON, and the descriptors that come with it."""

import asyncio
import json
import os
import socket
from typing import Any

from ..errors import BadRequest

_MAX_REQUEST = 8 << 20
REQUEST_BOUND = 30.0
"""Seconds for a request to come, and for an answer to go."""


class Request:
    """A request, its connection, and the file descriptors that came with it."""

    def __init__(self, body: dict[str, Any], sock: socket.socket, fds: list[int]) -> None:
        self.body = body
        self.sock = sock
        self.fds = fds

    def text(self, key: str, default: str | None = None) -> str:
        """A string of the request. Raises BadRequest."""
        value = self.body.get(key, default)
        if not isinstance(value, str):
            raise BadRequest(f"{key}: a string is expected")
        return value

    def object(self, key: str) -> dict[str, Any]:
        """An object of the request. Raises BadRequest."""
        value = self.body.get(key)
        if not isinstance(value, dict):
            raise BadRequest(f"{key}: an object is expected")
        return value

    async def answer(self, result: dict[str, Any]) -> None:
        """Send the answer line."""
        data = json.dumps(result).encode() + b"\n"
        await asyncio.wait_for(
            asyncio.get_running_loop().sock_sendall(self.sock, data), REQUEST_BOUND
        )


async def read_request(sock: socket.socket) -> Request:
    """Read one line and the file descriptors that come with it. Raises BadRequest, EOFError."""
    data, fds = bytearray(), list[int]()
    try:
        while b"\n" not in data:
            await _readable(sock)
            chunk, got, _, _ = socket.recv_fds(sock, 1 << 16, 16)
            fds += got
            if not chunk:
                raise EOFError
            data += chunk
            if len(data) > _MAX_REQUEST:
                raise BadRequest(f"request of more than {_MAX_REQUEST} bytes")
        body = json.loads(data)
        if not isinstance(body, dict):
            raise BadRequest("a JSON object is expected")
        return Request(body, sock, fds)
    except ValueError as error:
        for fd in fds:
            os.close(fd)
        raise BadRequest(f"request is not JSON: {error}") from error
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def arrived() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, arrived)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


async def peer_gone(sock: socket.socket) -> None:
    """Return when the peer closed its end."""
    while True:
        await _readable(sock)
        if not sock.recv(4096):
            return
