"""What a container needs from elsewhere before it starts: files by URI, addresses of servers."""

import asyncio
import os
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ..errors import BadRequest, HyperError, NotFound, Timeout
from .model import Container
from .spec_volumes import MAX_FILE, MAX_FILES

FETCH_BOUND = 60.0
"""Seconds for one file, whatever its server does."""
_RESOLVE_BOUND = 15.0
_CHUNK = 1 << 16


@dataclass(slots=True)
class Gathered:
    """Contents of files by URI, and addresses of hosts by name."""

    contents: dict[str, bytes] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)


async def gather(container: Container, hosts: Iterable[str]) -> Gathered:
    """Get them. Raises NotFound, BadRequest, Timeout, HyperError naming what could not be had."""
    result = Gathered()
    for file in container.spec.files:
        if file.uri and file.uri not in result.contents:
            result.contents[file.uri] = await _fetch(file.uri)
    total = sum(len(result.contents.get(f.uri, f.content)) for f in container.spec.files)
    if total > MAX_FILES:
        raise BadRequest(f"files: more than {MAX_FILES} bytes in all: use a volume")
    for host in hosts:
        result.addresses[host] = await _resolve(host)
    return result


async def _fetch(uri: str) -> bytes:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return await asyncio.to_thread(_read, unquote(parts.path), uri)
    try:
        async with asyncio.timeout(FETCH_BOUND):
            return await _download(uri)
    except TimeoutError:
        raise Timeout(f"file {uri}: not there within {FETCH_BOUND:.0f} s") from None


def _read(path: str, uri: str) -> bytes:
    """A regular file of the host, at most MAX_FILE bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise NotFound(f"file {uri}: does not exist on hyperd's host") from None
    except OSError as error:
        raise BadRequest(f"file {uri}: {(error.strerror or '').lower()}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadRequest(f"file {uri}: is not a regular file")
        with os.fdopen(os.dup(fd), "rb") as file:
            return _checked(file.read(MAX_FILE + 1), uri)
    finally:
        os.close(fd)


def _checked(data: bytes, uri: str) -> bytes:
    if len(data) > MAX_FILE:
        raise BadRequest(f"file {uri}: more than {MAX_FILE} bytes: use a volume")
    return data


async def _download(uri: str) -> bytes:
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(auto_decompress=True) as session,
            session.get(uri, max_redirects=5) as response,
        ):
            if response.status == 404:
                raise NotFound(f"file {uri}: not found")
            if response.status >= 400:
                raise HyperError(f"file {uri}: the server answered {response.status}")
            data = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                data += chunk
                _checked(bytes(data[: MAX_FILE + 1]), uri)
            return bytes(data)
    except (aiohttp.ClientError, ValueError) as error:
        raise HyperError(f"file {uri}: {error}") from error


async def _resolve(host: str) -> str:
    """The address of a server, by the host's resolver."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_BOUND):
            found = await loop.getaddrinfo(host, 2049, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        raise NotFound(f"NFS server {host}: no such host ({error or 'no answer'})") from error
    return str(found[0][4][0])
