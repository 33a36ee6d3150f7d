"""Disk images attached to a VM: each once, however many containers use it."""

from ..errors import BadRequest
from ..hypervisor.qemu import Qemu


class Disks:
    """Attaches images by path, with a count of their users."""

    def __init__(self, qemu: Qemu) -> None:
        self._qemu = qemu
        self._luns: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._writable: set[str] = set()

    async def attach(self, path: str, *, read_only: bool) -> str:
        """Attach `path` unless it is; returns its address for the guest, `TARGET:LUN`.

        Raises BadRequest when a writable image would be used twice.
        """
        if path in self._luns and not (read_only and path not in self._writable):
            raise BadRequest(f"disk image {path} is in use already")
        self._users[path] = self._users.get(path, 0) + 1
        if path not in self._luns:
            try:
                self._luns[path] = await self._qemu.plug_disk(path, read_only=read_only)
            except BaseException:
                self._users.pop(path, None)
                raise
            if not read_only:
                self._writable.add(path)
        return f"0:{self._luns[path]}"

    async def release(self, path: str) -> None:
        """One user less; the last one detaches the image, which the guest must have let go."""
        if path not in self._users:
            return
        self._users[path] -= 1
        if self._users[path] == 0:
            del self._users[path]
            self._writable.discard(path)
            await self._qemu.unplug_disk(self._luns.pop(path))
