"""Disk images attached to a VM: each once, however many containers use it."""

from typing import Any

from ..errors import BadRequest
from ..hypervisor.driver import RAW, DiskKind, Monitor


class Disks:
    """Attaches images by path, with a count of their users."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._luns: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._writable: set[str] = set()
        self._kinds: dict[str, DiskKind] = {}

    async def attach(
        self, path: str, *, read_only: bool, kind: DiskKind = RAW, shared: bool = False
    ) -> str:
        """Attach `path` unless it is; returns its address for the guest, `TARGET:LUN`.

        A `shared` one, which the guest mounts once for all, may be written by several containers.
        Raises BadRequest when a writable image would be used twice.
        """
        if path in self._luns:
            self._check_use(path, read_only, shared)
        self._users[path] = self._users.get(path, 0) + 1
        if path not in self._luns:
            try:
                self._luns[path] = await self._monitor.plug_disk(
                    path, read_only=read_only, kind=kind
                )
            except BaseException:
                self._users.pop(path, None)
                raise
            self._kinds[path] = kind
            if not read_only:
                self._writable.add(path)
        return f"0:{self._luns[path]}"

    def _check_use(self, path: str, read_only: bool, shared: bool) -> None:
        writable = path in self._writable
        if shared and not read_only and not writable:
            raise BadRequest(
                f"disk image {path} is attached read-only for another container of the pod"
            )
        if not shared and (writable or not read_only):
            raise BadRequest(f"disk image {path} is in use already")

    async def release(self, path: str) -> None:
        """One user less; the last one detaches the image, which the guest must have let go."""
        if path not in self._users:
            return
        self._users[path] -= 1
        if self._users[path] == 0:
            del self._users[path]
            self._writable.discard(path)
            self._kinds.pop(path, None)
            await self._monitor.unplug_disk(self._luns.pop(path))

    def to_json(self) -> list[dict[str, Any]]:
        """The disks as they are attached, for `restore`."""
        return [
            {
                "path": path,
                "lun": lun,
                "read_only": path not in self._writable,
                "format": self._kinds[path].format,
                "cache": self._kinds[path].cache,
                "users": self._users[path],
            }
            for path, lun in self._luns.items()
        ]

    async def restore(self, disk: dict[str, Any], path: str) -> None:
        """Attach `path` as `disk` of `to_json` was. Raises BadRequest, Conflict, VMError."""
        kind = DiskKind(str(disk["format"]), str(disk["cache"]))
        read_only = bool(disk["read_only"])
        await self._monitor.plug_disk(path, read_only=read_only, kind=kind, lun=int(disk["lun"]))
        self._luns[path], self._kinds[path] = int(disk["lun"]), kind
        self._users[path] = int(disk["users"])
        if not read_only:
            self._writable.add(path)
