"""The store's files on disk, each replaced or renamed in one step.

lock                 held by the process that owns the store
images.json          names, and what images consist of
configs/HEX          image configurations, as they came; named by digest
layers/HEX.sqfs      layers' disk images, named by diff_id
layers/HEX.tar       layers as registries have them (mostly gzip), for push and save
layers/HEX.json      what is known of each; written before its disk image
blobs/HEX[.partial]  downloads under way, kept for the next try after an interruption
cache/               templates of upper disks
tmp/                 anything half-written; emptied when the store is opened
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadRequest, Conflict, HyperError
from ..system.files import write_atomic
from ..system.patience import patience
from ..system.processes import alive, start_time
from .failures import disk_errors

_VERSION = 1
_FOLDERS = ("configs", "layers", "blobs", "cache", "tmp")
_LOCK_GRACE = 3.0  # seconds
_LEFTOVER_AGE = 24 * 3600.0  # seconds that an interrupted pull's files are kept


@dataclass(frozen=True)
class ImageRecord:
    """One image: its layers bottom first, and the names by digest it was pulled by.

    `step` is the key of the build's step that made it.
    """

    layers: tuple[str, ...]
    digests: tuple[str, ...] = ()
    step: str = ""


@dataclass(frozen=True)
class LayerRecord:
    """One layer's disk image, and the blob beside it; sizes in bytes."""

    tar_size: int
    size: int
    entries: int
    opaque_root: bool
    blob: str = ""
    blob_size: int = 0
    compression: str = ""


@dataclass(frozen=True)
class Index:
    """All images by id, and the id that each tag (in canonical form) means."""

    images: dict[str, ImageRecord] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Files:
    """The store's folder, locked. Its methods block."""

    def __init__(self, root: Path) -> None:
        """Open or make it; raises Conflict if another process has it, HyperError if damaged."""
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o711)
            for folder in _FOLDERS:
                (root / folder).mkdir(exist_ok=True, mode=0o700)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise BadRequest(f"can't use {root} for images: {error.strerror}".lower()) from None
        self.lock = self._take_lock()
        try:
            self._clean()
            self.index = self._read_index()
            self.layers = dict(self._read_layers())
            self._drop_leftovers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _take_lock(self) -> int:
        """Lock the folder. A killed owner's sqfstar has the lock until it ends, soon after."""
        fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_GRACE * patience()
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner, _, since = (
                    os.pread(fd, 64, 0).decode("ascii", "replace").strip().partition(" ")
                )
            if not _is_gone(owner, since) or time.monotonic() > deadline:
                os.close(fd)
                raise Conflict(
                    f"the images in {self.root} are in use by process {owner or '?'}: stop it, or"
                    " use another --root"
                )
            time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {start_time(os.getpid())}\n".encode(), 0)
        return fd

    def _clean(self) -> None:
        for path in (self.root / "tmp").iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        for path in (self.root / "cache").glob("*.new"):
            path.unlink()

    def _read_index(self) -> Index:
        path = self.root / "images.json"
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return Index()
        except ValueError:
            raise HyperError(f"{path} is damaged: move it away to start without images") from None
        if data.get("version") != _VERSION:
            raise HyperError(f"{path} is of another version of hyper: use another --root")
        images = {
            key: ImageRecord(
                tuple(value["layers"]), tuple(value["digests"]), str(value.get("step") or "")
            )
            for key, value in data["images"].items()
        }
        return Index(images, data["tags"])

    def _read_layers(self) -> Iterator[tuple[str, LayerRecord]]:
        for path in (self.root / "layers").glob("*.json"):
            if path.with_suffix(".sqfs").exists():
                try:
                    yield f"sha256:{path.stem}", LayerRecord(**json.loads(path.read_bytes()))
                except (ValueError, TypeError):
                    path.unlink()

    def _drop_leftovers(self) -> None:
        """Remove what an interrupted pull or removal left behind, once it is old."""
        used = {layer for record in self.index.images.values() for layer in record.layers}
        known = {self.layer_path(layer).stem for layer in used}
        configs = {key.partition(":")[2] for key in self.index.images}
        old = time.time() - _LEFTOVER_AGE
        for path in (self.root / "layers").iterdir():
            if path.name.partition(".")[0] not in known and path.stat().st_mtime < old:
                path.unlink()
                self.layers.pop(f"sha256:{path.stem}", None)
        for path in (self.root / "blobs").iterdir():
            if path.stat().st_mtime < old:
                path.unlink()
        for path in (self.root / "configs").iterdir():
            if path.name not in configs:
                path.unlink()

    def layer_path(self, diff_id: str) -> Path:
        """Where a layer's disk image is, or will be."""
        return self.root / "layers" / f"{diff_id.partition(':')[2]}.sqfs"

    def tar_path(self, diff_id: str) -> Path:
        """Where a layer's blob is kept, plain or compressed as it came."""
        return self.layer_path(diff_id).with_suffix(".tar")

    def blob_path(self, digest: str) -> Path:
        """Where a blob is while it is needed."""
        return self.root / "blobs" / digest.partition(":")[2]

    def drop_blob(self, digest: str) -> None:
        """Forget a blob, complete or not."""
        path = self.blob_path(digest)
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".partial").unlink(missing_ok=True)

    def add_layer(self, diff_id: str, made: Path, blob: Path, record: LayerRecord) -> None:
        """Move a layer's finished disk image, and its blob, to their places."""
        target = self.layer_path(diff_id)
        os.replace(blob, self.tar_path(diff_id))
        with disk_errors(str(self.root), "a layer's record"):
            write_atomic(str(target.with_suffix(".json")), json.dumps(asdict(record)).encode())
        os.chmod(made, 0o444)
        os.replace(made, target)
        self.layers[diff_id] = record

    def remove_layer(self, diff_id: str) -> None:
        """Remove a layer that no image uses."""
        self.layers.pop(diff_id, None)
        path = self.layer_path(diff_id)
        for one in (path, self.tar_path(diff_id), path.with_suffix(".json")):
            one.unlink(missing_ok=True)

    def read_config(self, image_id: str) -> bytes:
        """An image's configuration as it came."""
        return (self.root / "configs" / image_id.partition(":")[2]).read_bytes()

    def add_config(self, image_id: str, data: bytes) -> None:
        """Keep an image's configuration."""
        with disk_errors(str(self.root), "an image's configuration"):
            write_atomic(str(self.root / "configs" / image_id.partition(":")[2]), data)

    def remove_config(self, image_id: str) -> None:
        """Remove the configuration of an image that is gone."""
        (self.root / "configs" / image_id.partition(":")[2]).unlink(missing_ok=True)

    def save(self, index: Index) -> None:
        """Replace the index, durably."""
        data: dict[str, Any] = {
            "version": _VERSION,
            "images": {key: asdict(value) for key, value in index.images.items()},
            "tags": index.tags,
        }
        new = self.root / "tmp" / "images.json"
        with disk_errors(str(self.root), "the list of images"):
            with open(new, "wb") as file:
                file.write(json.dumps(data, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.root / "images.json")
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self.index = index


def _is_gone(pid: str, since: str) -> bool:
    """Whether the process that a lock names has ended, even if another has its pid by now."""
    return pid.isdigit() and since.isdigit() and not alive(int(pid), int(since))
