"""Fetching blobs into files: verified, and taken up again where an earlier try ended."""

import asyncio
import hashlib
import os
from pathlib import Path

from ..errors import HyperError
from .failures import BadImage, RegistryError, disk_errors, readable_size
from .manifest import Descriptor
from .registry import ATTEMPTS, Registry, Temporary, Unreachable, pause_before
from .shared import ProgressFn

_CHUNK = 1 << 20


def short(digest: str) -> str:
    """A digest's first 12 digits, as shown to people."""
    return digest.partition(":")[2][:12]


class _PartialFile:
    """A blob that is not complete yet, with its running digest. Its methods block."""

    def __init__(self, path: Path, need: str) -> None:
        self._path = path
        self._need = need
        self._hash = hashlib.sha256()
        self.size = 0
        self._file = open(path, "ab+")  # noqa: SIM115
        self._file.seek(0)
        while data := self._file.read(_CHUNK):
            self._hash.update(data)
            self.size += len(data)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        with disk_errors(str(self._path.parent), self._need):
            self._file.write(data)
            self._file.flush()
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # what could not be flushed is reported by `write`


async def fetch(
    registry: Registry, blob: Descriptor, target: Path, progress: ProgressFn, what: str
) -> None:
    """Bring a blob to `target`, through `target`.partial, which stays there if this is interrupted.

    Raises BadImage (wrong content; nothing stays), RegistryError, NotFound, NoSpace.
    """
    if target.exists():
        return
    partial = target.with_name(target.name + ".partial")
    need = f"{what} needs {readable_size(blob.size)}"
    file = await asyncio.to_thread(_PartialFile, partial, need)
    try:
        resumed = file.size > 0
        await _fill(registry, blob, file, progress, what)
        if resumed and file.digest != blob.digest:  # what an earlier try left may be bad
            await asyncio.to_thread(file.restart)
            await _fill(registry, blob, file, progress, what)
        if file.digest != blob.digest:
            await asyncio.to_thread(partial.unlink)
            raise BadImage(
                f"{what} does not match its digest: registry {registry.name} sent {file.digest}"
            )
    finally:
        await asyncio.to_thread(file.close)
    os.replace(partial, target)


async def _fill(
    registry: Registry, blob: Descriptor, file: _PartialFile, progress: ProgressFn, what: str
) -> None:
    """Download until the size is right; tries again as long as tries get on."""
    if file.size > blob.size:
        await asyncio.to_thread(file.restart)
    fruitless = 0
    while file.size < blob.size:
        before = file.size
        try:
            await _request(registry, blob, file, progress, what)
            if file.size < blob.size:
                raise Temporary(
                    f"registry {registry.name} sent only {file.size} of {blob.size} bytes of {what}"
                )
        except (Temporary, Unreachable) as error:
            fruitless = 0 if file.size > before else fruitless + 1
            if fruitless >= ATTEMPTS:
                raise _given_up(error, file, blob, what) from error
            await pause_before(fruitless + 1)


def _given_up(error: RegistryError, file: _PartialFile, blob: Descriptor, what: str) -> HyperError:
    if file.size == 0:
        return error
    return RegistryError(
        f"{error.message} ({readable_size(file.size)} of {readable_size(blob.size)} of {what}"
        " are kept: pull again to go on from there)"
    )


async def _request(
    registry: Registry, blob: Descriptor, file: _PartialFile, progress: ProgressFn, what: str
) -> None:
    headers = {"Range": f"bytes={file.size}-"} if file.size else {}
    async with registry.get(f"/blobs/{blob.digest}", headers, what) as response:
        if file.size:
            begins = response.headers.get("Content-Range", "").startswith(f"bytes {file.size}-")
            if response.status != 206 or not begins:
                await asyncio.to_thread(file.restart)
        if response.status == 416:
            raise Temporary(f"registry {registry.name} can't go on within {what}")
        pending = bytearray()
        async for chunk in response.content.iter_any():
            pending += chunk
            if file.size + len(pending) > blob.size:
                raise BadImage(
                    f"{what} does not match its manifest: registry {registry.name} sends more"
                    f" than {blob.size} bytes"
                )
            if len(pending) >= _CHUNK:
                await _store(file, pending, blob, progress)
        await _store(file, pending, blob, progress)


async def _store(
    file: _PartialFile, pending: bytearray, blob: Descriptor, progress: ProgressFn
) -> None:
    data = bytes(pending)
    pending.clear()
    await asyncio.to_thread(file.write, data)
    progress(
        {
            "status": "Downloading",
            "id": short(blob.digest),
            "progressDetail": {"current": file.size, "total": blob.size},
        }
    )
