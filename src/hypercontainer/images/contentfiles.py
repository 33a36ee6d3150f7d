"""Blobs kept by digest beside hyperd's layers: containerd's clients manage them one by one.

content/HEX          a blob: manifest, configuration, layer
content/ingest/NAME  one that is being written

hyperd's store has its own names for what it needs: a blob that both have is one file with two
names, so neither downloads nor keeps it twice, and each removes its own. Another process than
hyperd owns this folder.
"""

import hashlib
import json
import os
from collections.abc import Container
from pathlib import Path

from .failures import disk_errors

_CHUNK = 1 << 20


class Ingest:
    """A blob that is being written, with its running digest. Its methods block."""

    def __init__(self, path: Path, what: str) -> None:
        """Open or make the file; what is there already is read for the digest."""
        self.path = path
        self._what = what
        self._file = open(path, "ab+", buffering=0)  # noqa: SIM115
        os.fchmod(self._file.fileno(), 0o600)
        self.offset = 0
        self._hash = hashlib.sha256()
        self._read_again(os.fstat(self._file.fileno()).st_size)

    def _read_again(self, size: int) -> None:
        self.offset, self._hash = 0, hashlib.sha256()
        while self.offset < size:
            data = os.pread(self._file.fileno(), min(_CHUNK, size - self.offset), self.offset)
            if not data:
                break
            self._hash.update(data)
            self.offset += len(data)

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Add bytes. Raises NoSpace; what could not be written is not there then."""
        try:
            with disk_errors(str(self.path.parent), self._what):
                view = memoryview(data)
                while view:
                    view = view[self._file.write(view) :]
        except BaseException:
            self._file.truncate(self.offset)
            raise
        self._hash.update(data)
        self.offset += len(data)

    def cut(self, size: int) -> None:
        """Forget what is after the first `size` bytes."""
        self._file.truncate(size)
        self._read_again(size)

    def sync(self) -> None:
        """Wait until the disk has it. Raises NoSpace."""
        with disk_errors(str(self.path.parent), self._what):
            os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()


class ContentFiles:
    """The folder `content` of an image store. Its methods block."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder of the image store, which is made if it is missing."""
        self._layers = root / "layers"
        self._root = root / "content"
        self._ingests = self._root / "ingest"
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        for folder in (self._root, self._ingests):
            folder.mkdir(exist_ok=True, mode=0o700)
        self._known_layers: dict[str, str] = {}

    def path(self, digest: str) -> Path:
        """Where a blob is, or will be."""
        return self._root / digest.partition(":")[2]

    def ingest_path(self, name: str) -> Path:
        """Where a blob is while it is being written."""
        return self._ingests / name

    def open_ingest(self, name: str, what: str) -> Ingest:
        """Begin to write a blob, or go on with it."""
        return Ingest(self.ingest_path(name), what)

    def adopt(self, ingest: Ingest, digest: str) -> None:
        """Give a whole blob its name."""
        os.chmod(ingest.path, 0o444)
        os.replace(ingest.path, self.path(digest))

    def size(self, digest: str) -> int | None:
        """Bytes of a blob that is here, or that hyperd has as the archive of a layer."""
        path = self.path(digest)
        if not path.exists() and not self._take_from_layers(digest, path):
            return None
        return path.stat().st_size

    def _take_from_layers(self, digest: str, path: Path) -> bool:
        try:
            records = [name for name in os.listdir(self._layers) if name.endswith(".json")]
        except FileNotFoundError:
            return False
        for name in records:
            if name not in self._known_layers:
                try:
                    record = json.loads((self._layers / name).read_bytes())
                    self._known_layers[name] = str(record.get("blob", ""))
                except (OSError, ValueError, AttributeError):
                    continue
            if self._known_layers[name] == digest:
                try:
                    os.link(self._layers / f"{name[:-5]}.tar", path)
                    return True
                except OSError:
                    continue  # it went meanwhile
        return False

    def remove(self, digest: str) -> None:
        """Forget a blob."""
        self.path(digest).unlink(missing_ok=True)

    def remove_ingest(self, name: str) -> None:
        """Forget one that is being written."""
        self.ingest_path(name).unlink(missing_ok=True)

    def remove_others(self, digests: Container[str], ingests: Container[str]) -> None:
        """Remove what nobody knows of any more: a killed daemon left it."""
        for path in self._root.iterdir():
            if path != self._ingests and f"sha256:{path.name}" not in digests:
                path.unlink()
        for path in self._ingests.iterdir():
            if path.name not in ingests:
                path.unlink()


def link_content(root: Path, digest: str, target: Path) -> None:
    """Give a blob that a containerd's client brought a name in hyperd's store, if there is one."""
    try:
        os.link(root / "content" / digest.partition(":")[2], target)
    except OSError:
        pass
