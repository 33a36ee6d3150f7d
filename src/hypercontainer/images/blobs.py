"""Layers' tar archives as registries have them, kept beside the disk images for push and save."""

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .compression import CHUNK, Readable, decompress, is_compressed
from .failures import BadImage, disk_errors

SIZE_LIMIT = 256 << 30
"""Bytes of a layer's tar archive at most."""
_LEVEL = 3  # a third of the time of gzip's own 6, for 6 % more bytes
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}


@dataclass(frozen=True)
class Blob:
    """A file with a layer's tar; `compression` is `gzip`, `zstd` or `""`, `size` is in bytes."""

    path: Path
    digest: str
    size: int
    compression: str


@dataclass(frozen=True)
class NewLayer:
    """A layer made here: its blob, and the digest and bytes of its plain tar."""

    blob: Blob
    diff_id: str
    tar_size: int


def blob_at(path: Path, digest: str) -> Blob:
    """What a file holds whose digest is known. Blocks."""
    with open(path, "rb") as file:
        start = file.read(4)
        size = os.fstat(file.fileno()).st_size
    return Blob(path, digest, size, _compression(start))


def _compression(start: bytes) -> str:
    if not is_compressed(start):
        return ""
    return _MAGIC.get(start[:2], "zstd")


class BlobWriter:
    """Writes a plain tar as a gzip blob: the same bytes give the same blob. Blocks."""

    def __init__(self, path: Path, what: str) -> None:
        """`what` names the layer in errors; nothing may be at `path`."""
        self._path = path
        self._what = what
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._deflater = zlib.compressobj(_LEVEL, wbits=31)
        self._file = open(path, "xb", buffering=CHUNK)  # noqa: SIM115
        self._size = 0
        self._tar_size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes of the tar. Raises NoSpace, BadImage (too large)."""
        self._tar_size += len(data)
        if self._tar_size > SIZE_LIMIT:
            raise BadImage(f"{self._what} is refused: larger than {SIZE_LIMIT} bytes")
        self._plain.update(data)
        self._store(self._deflater.compress(data))

    def _store(self, data: bytes) -> None:
        if data:
            self._packed.update(data)
            self._size += len(data)
            with disk_errors(str(self._path.parent), self._what):
                self._file.write(data)

    def finish(self) -> NewLayer:
        """Complete the file. Raises NoSpace."""
        self._store(self._deflater.flush())
        with disk_errors(str(self._path.parent), self._what):
            self._file.close()
        blob = Blob(self._path, f"sha256:{self._packed.hexdigest()}", self._size, "gzip")
        return NewLayer(blob, f"sha256:{self._plain.hexdigest()}", self._tar_size)

    def abort(self) -> None:
        """Remove what was written."""
        try:
            self._file.close()
        except OSError:
            pass
        self._path.unlink(missing_ok=True)


def keep(source: Readable, path: Path, what: str) -> Blob:
    """Copy a layer's blob to `path`: as it is, but a plain tar becomes gzip. Blocks.

    Raises NoSpace; nothing stays at `path` then.
    """
    first = source.read(CHUNK)
    if not is_compressed(first):
        writer = BlobWriter(path, what)
        try:
            while first:
                writer.write(first)
                first = source.read(CHUNK)
            return writer.finish().blob
        except BaseException:
            writer.abort()
            raise
    digest, size, compression = hashlib.sha256(), 0, _compression(first)
    try:
        with disk_errors(str(path.parent), what), open(path, "xb", buffering=0) as file:
            while first:
                digest.update(first)
                size += len(first)
                file.write(first)
                first = source.read(CHUNK)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Blob(path, f"sha256:{digest.hexdigest()}", size, compression)


def plain(path: Path, what: str) -> Iterator[bytes]:
    """The plain tar of a blob, piece by piece. Blocks; BadImage if it is damaged."""
    with open(path, "rb", buffering=0) as file:
        yield from decompress(file, what)
