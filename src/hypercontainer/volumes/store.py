"""The volumes that hyperd keeps: one directory each, with a description beside the data.

Below the root: NAME/volume.json, and NAME/_data (driver local) or NAME/disk.img (driver disk).
A directory appears and goes by a rename, so that a crash leaves none half made. While a volume is
given its first content, a file `filling` marks it: after a crash it is emptied. One made for a
container that is not stored yet is marked by a file `pending`: a crash before that undoes it.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import BadRequest, Conflict, NotFound, disk_error
from .model import ANONYMOUS_LABEL, DISK, LOCAL, Volume, check_options, check_volume_name, disk_size

_DESCRIPTION = "volume.json"
_FILLING = "filling"
_FILLED = "filled"
_PENDING = "pending"
_NEW, _GONE = ".new-", ".gone-"
_FILTERS = ("dangling", "driver", "label", "name")
_BLOCK = 512


class VolumeStore:
    """Volumes below one directory. Used from one event loop; what takes long is in a thread."""

    def __init__(
        self, root: Path, make_disk: Callable[[Path, int], None], default_size: int
    ) -> None:
        """`make_disk` makes an empty disk of so many bytes, `default_size` unless asked for."""
        self._root = root
        self._make_disk = make_disk
        self._default_size = default_size
        self._volumes: dict[str, Volume] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def reconcile(self) -> None:
        """Load what there is; clear what a crash has left half made or half removed.

        What is half filled may still be written to by a virtual machine: see `empty_half_filled`.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o711)
        for path in sorted(self._root.iterdir()):
            if path.name.startswith((_NEW, _GONE)):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir():
                self._volumes[path.name] = _read(path)

    def empty_half_filled(self) -> None:
        """Empty what a crash has left half filled, once no virtual machine fills it any more."""
        for volume in self._volumes.values():
            if (volume.directory / _FILLING).exists():
                self._empty(volume)

    def drop_pending(self, used: Collection[str]) -> None:
        """Remove what was made for containers that a crash kept from being stored."""
        for name, volume in list(self._volumes.items()):
            if not (volume.directory / _PENDING).exists():
                continue
            if name in used:
                self.settle(name)
            else:
                shutil.rmtree(self.remove_now(name), ignore_errors=True)

    def settle(self, name: str) -> None:
        """The container that a volume was made for is stored."""
        (self.get(name).directory / _PENDING).unlink(missing_ok=True)

    # Finding

    def get(self, name: str) -> Volume:
        """A volume by its name. Raises NotFound."""
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(f"no such volume: {name}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._volumes

    def select(self, filters: Mapping[str, Iterable[str]], used: Collection[str]) -> list[Volume]:
        """The volumes that match Docker's filters, by name. Raises BadRequest."""
        for key in filters:
            if key not in _FILTERS:
                raise BadRequest(f"filter {key!r} is unknown: there are {', '.join(_FILTERS)}")
        return [
            volume
            for name, volume in sorted(self._volumes.items())
            if all(_matches(volume, key, list(v), name in used) for key, v in filters.items())
        ]

    # Making and removing

    def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        pending: bool = False,
    ) -> Volume:
        """Make a volume, an anonymous one without a name; one that is there is returned.

        A `pending` one goes with a crash that comes before `settle`.
        Raises BadRequest, NotSupported, Conflict (another one has the name), NoSpace.
        """
        options, labels = dict(options or {}), dict(labels or {})
        check_options(driver or LOCAL, options)
        if not name:
            name = secrets.token_hex(32)
            labels[ANONYMOUS_LABEL] = ""
        check_volume_name(name)
        if name in self._volumes:
            return self._same(self._volumes[name], driver, options)
        created = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        volume = Volume(name, driver or LOCAL, options, labels, created, self._root / name)
        self._make(volume, pending)
        self._volumes[name] = volume
        return volume

    def _same(self, volume: Volume, driver: str, options: Mapping[str, str]) -> Volume:
        other_driver = driver and driver != volume.driver
        if other_driver or (options and dict(options) != dict(volume.options)):
            raise Conflict(
                f"volume {volume.name} exists with the driver {volume.driver} and other options:"
                " choose another name, or remove it first"
            )
        return volume

    def _make(self, volume: Volume, pending: bool) -> None:
        new = self._root / f"{_NEW}{secrets.token_hex(6)}"
        try:
            new.mkdir(mode=0o711, parents=True)
            if volume.driver == DISK:
                self._make_disk(new / volume.image.name, self._size_of(volume))
            else:
                (new / "_data").mkdir(mode=0o755)
            description = {
                "name": volume.name,
                "driver": volume.driver,
                "options": dict(volume.options),
                "labels": dict(volume.labels),
                "created": volume.created,
            }
            (new / _DESCRIPTION).write_text(json.dumps(description))
            if pending:
                (new / _PENDING).touch()
            new.rename(volume.directory)
        except OSError as error:
            raise disk_error(error, f"make volume {volume.name}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _size_of(self, volume: Volume) -> int:
        size = volume.options.get("size")
        return disk_size(size, "size") if size else self._default_size

    async def remove(self, name: str, users: Collection[str] = ()) -> None:
        """Remove a volume and its data. Raises NotFound, and Conflict when `users` has any."""
        self.get(name)
        if users:
            raise Conflict(
                f"volume {name} is in use by container {sorted(users)[0]}: remove that first"
            )
        async with self._lock(name):
            gone = self.remove_now(name)
        self._locks.pop(name, None)
        await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)

    def remove_now(self, name: str) -> Path:
        """Forget a volume; its data is left in a directory to be removed, at the latest by
        `reconcile`. Raises NotFound."""
        volume = self.get(name)
        gone = self._root / f"{_GONE}{secrets.token_hex(6)}"
        with contextlib.suppress(FileNotFoundError):
            volume.directory.rename(gone)
        del self._volumes[name]
        return gone

    async def prune(
        self, used: Collection[str], filters: Mapping[str, Iterable[str]], *, everything: bool
    ) -> tuple[list[str], int]:
        """Remove what no container uses: anonymous ones, or all; their names and bytes on disk."""
        removed, size = [], 0
        for volume in self.select(filters, used):
            if volume.name in used or not (everything or volume.anonymous):
                continue
            size += await asyncio.to_thread(_size, volume.directory)
            with contextlib.suppress(NotFound):
                await self.remove(volume.name)
                removed.append(volume.name)
        return removed, size

    def size(self, name: str) -> int:
        """Bytes that a volume takes on disk; blocks while it is walked."""
        return _size(self.get(name).directory)

    # Filling

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def is_unfilled(self, name: str) -> bool:
        """Whether a volume still waits for its first content. Raises NotFound."""
        return not _has_content(self.get(name))

    def mark_filled(self, name: str) -> None:
        """Note that a volume of the driver disk has content. Raises NotFound."""
        (self.get(name).directory / _FILLED).touch()

    @asynccontextmanager
    async def filling(self, names: Iterable[str]) -> AsyncIterator[None]:
        """While the body runs, volumes that are empty may get their first content, from one only.

        When it fails they are empty again.
        """
        async with contextlib.AsyncExitStack() as stack:
            marked = []
            for name in filter(self.is_unfilled, sorted(set(names))):
                await stack.enter_async_context(self._lock(name))
                volume = self.get(name)
                if (volume.directory / _FILLING).exists():
                    self._empty(volume)
                if not _has_content(volume):
                    (volume.directory / _FILLING).touch()
                    marked.append(volume)
            try:
                yield
            except BaseException:
                for volume in marked:
                    self._empty(volume)
                raise
            for volume in marked:
                (volume.directory / _FILLED).touch()
                (volume.directory / _FILLING).unlink(missing_ok=True)

    def _empty(self, volume: Volume) -> None:
        if volume.driver == DISK:
            volume.image.unlink(missing_ok=True)
            self._make_disk(volume.image, self._size_of(volume))
        else:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(volume.data)
            volume.data.mkdir(mode=0o755)
        (volume.directory / _FILLING).unlink(missing_ok=True)


def _has_content(volume: Volume) -> bool:
    """Whether it is not to be filled any more. One whose data somebody removed begins anew."""
    if (volume.directory / _FILLING).exists():
        return False
    if volume.driver == DISK:
        return (volume.directory / _FILLED).exists()
    volume.data.mkdir(parents=True, exist_ok=True)
    with os.scandir(volume.data) as entries:
        return next(entries, None) is not None


def _read(path: Path) -> Volume:
    """The volume in a directory, which an earlier version has left without a description."""
    about: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError, ValueError):
        about = json.loads((path / _DESCRIPTION).read_text())
    created = about.get("created")
    if not created:
        moment = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
        created = moment.isoformat().replace("+00:00", "Z")
    return Volume(
        path.name,
        about.get("driver", LOCAL),
        about.get("options", {}),
        about.get("labels", {}),
        created,
        path,
    )


def _matches(volume: Volume, key: str, values: list[str], used: bool) -> bool:
    if key == "name":
        return any(value in volume.name for value in values)
    if key == "driver":
        return volume.driver in values
    if key == "dangling":
        wanted = [value.lower() in ("1", "true") for value in values]
        return used not in wanted
    pairs = (value.partition("=") for value in values)
    return all(
        name in volume.labels and (not equals or volume.labels[name] == value)
        for name, equals, value in pairs
    )


def _size(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * _BLOCK
    return total
