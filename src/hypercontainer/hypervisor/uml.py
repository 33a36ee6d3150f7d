"""A running User Mode Linux, driven by its management console."""

import asyncio
import errno
import os
import socket
import tempfile
from typing import NamedTuple

from ..errors import HyperError, NotSupported, VMError
from ..system import handover, taps
from . import uml_start
from .disk_images import open_image
from .driver import RAW, DiskKind, Features, Monitor
from .machine import Vmm
from .mconsole import Console

_BOUND = 30.0
_POLL = 0.002
_SECTOR = 512
# Its driver has 16 disks: for the first it has a file of its own, and the last runs errands.
_LUNS = range(1, 15)
_ERRAND = 15
# Descriptors of its cards, beyond those that it opens itself.
_CARDS = range(64, 80)
_CACHES = ("", "writeback")


class _Disk(NamedTuple):
    fd: int
    read_only: bool


class _Card(NamedTuple):
    """The number that its own tap has in the VMM, and the tap that it stands for."""

    number: int
    tap: int


class UserModeLinux(Monitor):
    """One VM.

    Its disks are opened here. In its jail a file of the same length, with nothing in it, stands
    for each: that one it measures, and when it opens it for use it gets ours.
    """

    def __init__(self, vmm: Vmm, features: Features) -> None:
        self.vmm = vmm
        self.features = features
        self._handles: uml_start.Handles | None = None
        self._console: Console | None = None
        self._disks: dict[int, _Disk] = {}
        self._cards: dict[str, _Card] = {}
        self._passed: tuple[int, int] | None = None
        self._lock = asyncio.Lock()
        self._up = asyncio.Event()

    async def connect(self, timeout: float) -> None:
        """As `Monitor`: take what its process left before it became the VMM."""
        try:
            async with asyncio.timeout(timeout):
                # The event loop can't take descriptors from a socket.
                while (found := uml_start.handles(self.vmm.monitor)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL)
                self._take(found)
        except TimeoutError:
            raise VMError("User Mode Linux did not start in time") from None
        except (OSError, EOFError):
            raise VMError("User Mode Linux ended before it started") from None

    def _take(self, found: uml_start.Handles) -> None:
        self._handles = found
        answers = socket.socket(fileno=found.answers)
        self._console = Console(answers, found.scratch, uml_start.CONSOLE)
        asyncio.get_running_loop().add_reader(found.listener, self._answer_open, found.listener)

    def guest_is_up(self) -> None:
        """As `Monitor`."""
        self._up.set()

    async def _until_up(self) -> None:
        """Wait until its kernel has executed its first program, or has ended.

        The management console answers before that. But a disk that is plugged while the kernel
        initializes its drivers is registered once more by the driver of disks, and the next one
        that goes ends the kernel.
        """
        await self._up.wait()
        if self._console is None:
            raise VMError("the virtual machine is gone")

    def _answer_open(self, listener: int) -> None:
        """Give it the disk that it opens. It waits meanwhile, all of it."""
        try:
            asked = handover.receive(listener)
            if asked is None:
                return
            lun = _lun(asked.path)
            disk = self._disks.get(lun)
            if lun == _ERRAND and self._passed is not None:
                handover.give_as(listener, asked, *self._passed)
                self._passed = None
            if disk is None:
                handover.refuse(listener, asked, errno.ENOENT)
            else:
                handover.give(listener, asked, disk.fd)
        except OSError:
            # The last process that had the filter is gone, or is going.
            asyncio.get_running_loop().remove_reader(listener)

    async def _ask(self, command: str) -> str:
        if self._console is None:
            raise VMError("the virtual machine is gone")
        return await self._console.ask(command, _BOUND)

    async def plug_disk(
        self, path: str, *, read_only: bool, kind: DiskKind = RAW, lun: int | None = None
    ) -> int:
        """As `Monitor`; a LUN is the number of a `ubd` device."""
        if kind.format != "raw" or kind.cache not in _CACHES:
            how = kind.format if kind.format != "raw" else f"with cache={kind.cache}"
            raise NotSupported(
                f"disk image {path}: User Mode Linux has raw images, cached by writeback, and not"
                f" {how}"
            )
        await self._until_up()
        async with self._lock:
            lun = next((n for n in _LUNS if n not in self._disks), 0) if lun is None else lun
            if lun not in _LUNS or lun in self._disks:
                raise NotSupported(
                    f"disk image {path}: User Mode Linux has no more than {len(_LUNS)} disks"
                )
            fd = await open_image(path, read_only=read_only)
            try:
                self._place(lun, os.lseek(fd, 0, os.SEEK_END))
                self._disks[lun] = _Disk(fd, read_only)
                # Opened with O_SYNC, without a look for a copy-on-write header, unlocked: the
                # guest has a hand in the content, and the lock is ours.
                flags = "rsdc" if read_only else "sdc"
                await self._ask(f"config ubd{lun}{flags}={uml_start.DISKS}/{lun}")
            except BaseException:
                self._forget(lun)
                os.close(fd)
                raise
            return lun

    async def _pass(self, fd: int, number: int) -> None:
        """Give it a copy of a descriptor as a number.

        It takes one only while it opens something, so a disk is plugged for a moment.
        """
        with tempfile.TemporaryFile() as empty:
            self._passed = fd, number
            self._disks[_ERRAND] = _Disk(empty.fileno(), read_only=True)
            try:
                self._place(_ERRAND, _SECTOR)
                await self._ask(f"config ubd{_ERRAND}rsdc={uml_start.DISKS}/{_ERRAND}")
                await self._ask(f"remove ubd{_ERRAND}")
                if self._passed is not None:
                    raise VMError("User Mode Linux did not take a descriptor")
            finally:
                self._passed = None
                self._forget(_ERRAND)

    def _place(self, lun: int, size: int) -> None:
        """Make the file that stands for a disk."""
        if self._handles is None:
            raise VMError("the virtual machine is gone")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        stand_in = os.open(str(lun), flags, 0o444, dir_fd=self._handles.disks)
        try:
            os.truncate(stand_in, size)
        finally:
            os.close(stand_in)

    def _forget(self, lun: int) -> None:
        self._disks.pop(lun, None)
        if self._handles is not None:
            try:
                os.unlink(str(lun), dir_fd=self._handles.disks)
            except FileNotFoundError:
                pass

    async def unplug_disk(self, lun: int) -> None:
        """As `Monitor`."""
        async with self._lock:
            await self._ask(f"remove ubd{lun}")
            fd = self._disks[lun].fd
            self._forget(lun)
            os.close(fd)

    async def plug_network(self, name: str, tap: int, mac: str, slot: str = "") -> None:
        """As `Monitor`. It can't do with the header of the tap's packets, so it gets another tap,
        in the place of whoever reads this one."""
        await self._until_up()
        async with self._lock:
            numbers = [card.number for card in self._cards.values()]
            number = next((n for n in _CARDS if n not in numbers), 0)
            if not number:
                raise NotSupported(f"User Mode Linux has no more than {len(_CARDS)} cards")
            home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            own, interface = taps.new_tap(header=False)
            try:
                await asyncio.to_thread(taps.take_place, interface, home, tap)
                await self._pass(own, number)
                # A tap has no calls for several packets at once.
                card = f"transport=fd,fd={number},mac={mac},vec=0"
                await self._ask(f"config vec{number - _CARDS[0]}:{card}")
            except (HyperError, OSError) as error:
                raise VMError(f"network card {mac}: {error}") from error
            finally:
                os.close(own)
                os.close(home)
            self._cards[name] = _Card(number, os.dup(tap))

    async def unplug_network(self, name: str) -> None:
        """As `Monitor`."""
        async with self._lock:
            card = self._cards.pop(name)
            try:
                await self._ask(f"remove vec{card.number - _CARDS[0]}")
            finally:
                os.close(card.tap)

    async def pause(self) -> None:
        """As `Monitor`."""
        await self._ask("stop")

    async def resume(self) -> None:
        """As `Monitor`."""
        await self._ask("go")

    async def close(self) -> None:
        """As `Monitor`."""
        self._up.set()
        if self._handles is None:
            return
        asyncio.get_running_loop().remove_reader(self._handles.listener)
        os.close(self._handles.listener)
        os.close(self._handles.disks)
        if self._console is not None:
            self._console.close()
        self._handles = self._console = None
        for fd in (*(d.fd for d in self._disks.values()), *(c.tap for c in self._cards.values())):
            os.close(fd)
        self._disks.clear()
        self._cards.clear()
        self.vmm.monitor.close()


def _lun(path: str) -> int:
    """The disk that a path in the jail stands for, -1 for none."""
    number = path.removeprefix(f"{uml_start.DISKS}/")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 3 else -1
