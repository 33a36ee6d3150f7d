"""The snapshots that hyperd keeps: one directory each, root's only.

    NAME/snapshot.json   what it is of: the pod, its containers, and the sizes of the other files
    NAME/vm.json, state, ram, disk-N.img   see `sandbox.snapshot`

A directory appears and goes by a rename, so that a crash leaves none half made.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadRequest, Conflict, HyperError, NoSpace, NotFound, disk_error
from ..system import memfd, sparse
from ..system.files import write_atomic
from ..system.memory import available
from .names import check_name

FORMAT = 1
RAM, STATE, VM = "ram", "state", "vm.json"
MANIFEST = "snapshot.json"
_NEW, _GONE = ".new-", ".gone-"
_HASHED = (VM, STATE, RAM)
_KEPT = 60.0  # seconds for which the memory of a snapshot stays loaded
_SPARE = 64 << 20
EACH = 48 << 20
"""Bytes that a VM which goes on takes before it writes to its own: QEMU, and its sandbox."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot: its directory, and what its manifest says."""

    directory: Path
    about: dict[str, Any]

    @property
    def image_ids(self) -> set[str]:
        """The images that its containers are made of."""
        return {str(container["image_id"]) for container in self.about["containers"]}

    def size(self) -> int:
        """The bytes that it takes on disk."""
        return sum(512 * path.lstat().st_blocks for path in self.directory.iterdir())


def write_manifest(directory: Path, about: dict[str, Any]) -> Snapshot:
    """Complete a snapshot in a directory: bring it to the disk, and write what it is of.

    Blocks. Raises HyperError, NoSpace.
    """
    files: dict[str, dict[str, Any]] = {}
    try:
        for path in sorted(directory.iterdir()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                entry: dict[str, Any] = {"size": os.fstat(file.fileno()).st_size}
                if path.name in _HASHED:
                    entry["sha256"] = sparse.digest(file.fileno())
                files[path.name] = entry
        about = {"format": FORMAT, **about, "files": files}
        write_atomic(str(directory / MANIFEST), json.dumps(about, indent=1).encode())
    except OSError as error:
        raise disk_error(error, f"write the snapshot in {directory}") from error
    return Snapshot(directory, about)


def read_manifest(directory: Path, what: str) -> Snapshot:
    """The snapshot in a directory. Raises NotFound, and Conflict when it is damaged or foreign."""
    try:
        owner = directory.stat().st_uid
        about = json.loads((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise NotFound(f"no such snapshot: {what}") from None
    except (OSError, ValueError) as error:
        raise _damaged(what, f"{MANIFEST}: {error}") from error
    if owner != os.geteuid():
        raise Conflict(
            f"{what} belongs to the user {owner}: whoever wrote it can make hyperd run anything:"
            " remove it"
        )
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise Conflict(f"{what} is of another version of hyperd: remove it, and make another")
    return Snapshot(directory, about)


def check_files(snapshot: Snapshot, what: str) -> None:
    """Compare the files with what the manifest says. Raises Conflict."""
    for name, entry in snapshot.about["files"].items():
        try:
            size = (snapshot.directory / name).stat().st_size
        except OSError as error:
            raise _damaged(what, f"{name}: {error.strerror}") from error
        if size != entry["size"]:
            raise _damaged(what, f"{name} has {size} bytes instead of {entry['size']}")
    for name in (VM, STATE):
        with (snapshot.directory / name).open("rb") as file:
            _check_digest(snapshot, name, sparse.digest(file.fileno()), what)


def _check_digest(snapshot: Snapshot, name: str, found: str, what: str) -> None:
    if found != snapshot.about["files"][name]["sha256"]:
        raise _damaged(what, f"the content of {name} has changed")


def _damaged(what: str, why: str) -> Conflict:
    return Conflict(f"{what} is damaged: {why}: remove it, and make another")


def load_memory(snapshot: Snapshot, what: str) -> int:
    """The RAM of a snapshot as a sealed memfd. Blocks. Raises Conflict, NoSpace, HyperError."""
    path = snapshot.directory / RAM
    try:
        need_memory(512 * path.stat().st_blocks, what)
        with path.open("rb") as file:
            fd = memfd.new("hyper-snapshot", os.fstat(file.fileno()).st_size)
            try:
                _check_digest(snapshot, RAM, sparse.digest(file.fileno(), into=fd), what)
                memfd.seal(fd)
            except BaseException:
                os.close(fd)
                raise
    except OSError as error:
        raise disk_error(error, f"load {what}") from error
    return fd


def new_memory(directory: Path, what: str) -> int:
    """A file for RAM in a new snapshot, to be written and read. Raises NoSpace, HyperError."""
    try:
        return os.open(directory / RAM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error(error, what) from error


def memory_path(memory: int) -> str:
    """Where another process finds RAM that we have loaded."""
    return f"/proc/{os.getpid()}/fd/{memory}"


def need_memory(size: int, what: str) -> None:
    """Raises NoSpace when so many bytes of memory can't be had."""
    if (free := available()) < size + _SPARE:
        raise NoSpace(
            f"{what}: it takes {(size + _SPARE) >> 20} MiB of memory, and {free >> 20} MiB are"
            " available: stop something, or give hyperd more"
        )


def need_disk(directory: Path, size: int, what: str) -> None:
    """Raises NoSpace when so many bytes can't be had on the disk of a directory."""
    try:
        status = os.statvfs(directory)
    except OSError as error:
        raise disk_error(error, what) from error
    if (free := status.f_bavail * status.f_frsize) < size:
        raise NoSpace(
            f"{what}: it takes {size >> 20} MiB on the disk of {directory}, where {free >> 20} MiB"
            " are free: free space, or set Root to a larger disk"
        )


@dataclass(slots=True)
class Taken:
    """Where a snapshot is that is used up; `spent` says that it can't be used again."""

    directory: Path
    spent: bool = False


class SnapshotStore:
    """Snapshots below one directory. Used from one event loop."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._used: Counter[str] = Counter()
        self._memories: dict[str, tuple[int, asyncio.TimerHandle]] = {}

    def open(self) -> None:
        """Clear what a crash has left half made or half removed."""
        for path in list(self._root.iterdir()) if self._root.is_dir() else []:
            if path.name.startswith((_NEW, _GONE)):
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Let go what is loaded."""
        for name in list(self._memories):
            self._forget_memory(name)

    def names(self) -> list[str]:
        """All names."""
        try:
            found = [p.name for p in self._root.iterdir() if not p.name.startswith(".")]
        except FileNotFoundError:
            return []
        return sorted(found)

    def get(self, name: str) -> Snapshot:
        """A snapshot. Raises NotFound, BadRequest, Conflict (it can't be used)."""
        check_name(name, "snapshot")
        return read_manifest(self._root / name, f"snapshot {name}")

    def all(self) -> list[Snapshot]:
        """All that can be read, by name."""
        found = []
        for name in self.names():
            with contextlib.suppress(HyperError):
                found.append(self.get(name))
        return found

    def uses_image(self, image_id: str) -> str:
        """The name of a snapshot of containers of an image, "" when there is none."""
        for snapshot in self.all():
            if image_id in snapshot.image_ids:
                return snapshot.directory.name
        return ""

    def check_new(self, name: str) -> None:
        """Raises BadRequest, Conflict for a name that a new one can't have."""
        check_name(name, "snapshot")
        if (self._root / name).exists():
            raise Conflict(f"a snapshot {name} exists: choose another name, or remove that first")

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A directory for a new snapshot, which goes with the body. Raises HyperError."""
        directory = self._root / f"{_NEW}{secrets.token_hex(6)}"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._root.stat().st_uid != os.geteuid():
                raise Conflict(f"{self._root} belongs to another user: move it away")
            directory.mkdir(mode=0o700)
        except OSError as error:
            raise disk_error(error, f"make a snapshot in {self._root}") from error
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def keep(self, name: str, directory: Path) -> None:
        """Give a complete snapshot its name. Raises Conflict, HyperError."""
        self.check_new(name)
        try:
            directory.rename(self._root / name)
        except OSError as error:
            raise disk_error(error, f"keep snapshot {name}") from error

    @contextlib.contextmanager
    def taken(self, name: str) -> Iterator[Taken]:
        """A snapshot that the body uses up: it is gone afterwards, unless the body fails before
        it is `spent`. Raises HyperError."""
        taken = Taken(self._root / f"{_GONE}{secrets.token_hex(6)}")
        try:
            (self._root / name).rename(taken.directory)
        except OSError as error:
            raise disk_error(error, f"take snapshot {name}") from error
        try:
            yield taken
            taken.spent = True
        finally:
            if taken.spent:
                shutil.rmtree(taken.directory, ignore_errors=True)
            else:
                taken.directory.rename(self._root / name)

    async def remove(self, name: str) -> None:
        """Remove a snapshot, whole or damaged. Raises NotFound, Conflict (in use just now)."""
        check_name(name, "snapshot")
        path = self._root / name
        if not path.exists():
            raise NotFound(f"no such snapshot: {name}")
        if self._used[name]:
            raise Conflict(f"snapshot {name} is just being continued: try again")
        self._forget_memory(name)
        gone = self._root / f"{_GONE}{secrets.token_hex(6)}"
        try:
            path.rename(gone)
        except OSError as error:
            raise disk_error(error, f"remove snapshot {name}") from error
        await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def used(self, name: str) -> AsyncIterator[tuple[Snapshot, int]]:
        """A snapshot and its RAM (a descriptor), which stay as they are while the body runs.

        Raises NotFound, Conflict (damaged), NoSpace.
        """
        snapshot = self.get(name)
        what = f"snapshot {name}"
        self._used[name] += 1
        try:
            await asyncio.to_thread(check_files, snapshot, what)
            if name not in self._memories:
                fd = await asyncio.to_thread(load_memory, snapshot, what)
                if name in self._memories:
                    os.close(fd)
                else:
                    self._keep_memory(name, fd)
            yield snapshot, self._memories[name][0]
        finally:
            self._used[name] -= 1
            if name in self._memories:
                self._keep_memory(name, self._memories[name][0])

    def _keep_memory(self, name: str, fd: int) -> None:
        """Copies that come soon share it."""
        if name in self._memories:
            self._memories[name][1].cancel()
        timer = asyncio.get_running_loop().call_later(_KEPT, self._forget_unused, name)
        self._memories[name] = (fd, timer)

    def _forget_unused(self, name: str) -> None:
        if not self._used[name]:
            self._forget_memory(name)

    def _forget_memory(self, name: str) -> None:
        if name in self._memories:
            fd, timer = self._memories.pop(name)
            timer.cancel()
            os.close(fd)


def read_wanted(body: dict[str, Any]) -> dict[str, Any]:
    """What a copy is to have of its own, as keys of a pod specification. Raises BadRequest."""
    known = {key.lower(): key for key in WANTED}
    unknown = sorted(key for key in body if key.lower() not in known)
    if unknown:
        raise BadRequest(f"{unknown[0]}: a copy has what its pod had, but for {', '.join(WANTED)}")
    return {known[key.lower()]: value for key, value in body.items()}


WANTED = (
    *("id", "hostname", "labels", "autoRemove"),
    *("network", "networks", "portmappings", "publishAllPorts"),
)
