"""Putting blobs and manifests into a registry.

API: the distribution specification, "Push": a blob goes up in one piece by POST and PUT.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import urljoin, urlsplit

from ..errors import NotFound, Timeout
from .blobs import Blob
from .compression import CHUNK
from .failures import RegistryError
from .registry import ATTEMPTS, Body, Registry, Temporary, pause_before

STALL = 120.0
"""Seconds that a registry may take no data, or not answer after the last."""
_LENGTH = "Content-Length"
_BINARY = {"Content-Type": "application/octet-stream"}


async def has_blob(registry: Registry, digest: str, what: str) -> bool:
    """Whether the repository has a blob. Raises AccessDenied, RegistryError."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            url = registry.url(f"/blobs/{digest}")
            async with registry.request("HEAD", url, {}, what) as response:
                return response.status == 200
        except NotFound:
            return False
        except Temporary:
            if attempt == ATTEMPTS:
                raise
        await pause_before(attempt)
    raise AssertionError


async def put_file(
    registry: Registry, blob: Blob, what: str, progress: Callable[[int], None]
) -> None:
    """Upload a blob of a file; `progress` is told the bytes sent.

    Raises AccessDenied, RegistryError.
    """
    await _put(registry, blob.digest, blob.size, what, lambda bound: _pieces(blob, progress, bound))


async def put_bytes(registry: Registry, digest: str, data: bytes, what: str) -> None:
    """Upload a small blob. Raises AccessDenied, RegistryError."""
    await _put(registry, digest, len(data), what, lambda _: data)


async def put_manifest(
    registry: Registry, target: str, media_type: str, data: bytes, what: str
) -> None:
    """Put a manifest under a tag or digest. Raises AccessDenied, RegistryError."""
    url = registry.url(f"/manifests/{target}")
    headers = {"Content-Type": media_type}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with registry.request("PUT", url, headers, what, lambda: data):
                return
        except Temporary:
            if attempt == ATTEMPTS:
                raise
        await pause_before(attempt)


async def _put(
    registry: Registry,
    digest: str,
    size: int,
    what: str,
    body: Callable[[asyncio.Timeout], Body],
) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            location = await _begin(registry, what)
            mark = "&" if urlsplit(location).query else "?"
            headers = {**_BINARY, _LENGTH: str(size)}
            url = f"{location}{mark}digest={digest}"
            async with asyncio.timeout(STALL) as bound:
                async with registry.request("PUT", url, headers, what, lambda: body(bound)):
                    return
        except TimeoutError:
            raise Timeout(f"registry {registry.name} took no data for {STALL:.0f} s") from None
        except Temporary:
            if attempt == ATTEMPTS:
                raise
        except NotFound as error:  # of the upload that it has just begun, or of the repository
            raise RegistryError(f"registry {registry.name} takes no {what}") from error
        await pause_before(attempt)


async def _begin(registry: Registry, what: str) -> str:
    """The address to send a blob to."""
    start = registry.url("/blobs/uploads/")
    async with registry.request("POST", start, {_LENGTH: "0"}, what) as response:
        location = response.headers.get("Location", "")
    url = urljoin(start, location)
    if not location or urlsplit(url).netloc != urlsplit(start).netloc:
        raise RegistryError(f"registry {registry.name} wants {what} at another place: {location!r}")
    return url


async def _pieces(
    blob: Blob, progress: Callable[[int], None], bound: asyncio.Timeout
) -> AsyncIterator[bytes]:
    """The file in pieces; each that the registry takes moves the bound."""
    done = 0
    with open(blob.path, "rb", buffering=0) as file:
        while data := await asyncio.to_thread(file.read, CHUNK):
            yield data
            bound.reschedule(asyncio.get_running_loop().time() + STALL)
            done += len(data)
            progress(done)
