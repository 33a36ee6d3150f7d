"""Turning a layer's tar into a squashfs image, by `sqfstar` as a child process."""

import os
from dataclasses import dataclass

from .failures import disk_errors, find_program
from .layer import Facts
from .passage import Cancelled, OpenBlob, Passage
from .tarstream import Entry

FSTYPE = "squashfs"
# More memory than this made sqfstar 4.5.1 slower: a large queue of blocks leaves the caches.
_OPTIONS = (
    "-comp lz4 -processors 1 -mem 64M -no-progress -quiet -exit-on-error -mkfs-time 0".split()
)

__all__ = ["FSTYPE", "Cancelled", "Conversion", "Converted", "OpenBlob"]


@dataclass(frozen=True)
class Converted:
    """A layer's disk image, as it was made."""

    tar_size: int
    size: int
    facts: Facts


class Conversion(Passage):
    """One layer on its way to a disk image."""

    def run(self) -> Converted:
        """Read, rewrite, compress; nothing is left at the target after an error.

        Raises BadImage, NoSpace, Timeout, NotSupported (no sqfstar), Cancelled.
        """
        passed = self._pass()
        try:
            self._sync()
        except BaseException:
            self._clear()
            raise
        return Converted(passed.tar_size, self._target.stat().st_size, passed.facts)

    def _command(self, root: Entry) -> list[str]:
        return [
            find_program("sqfstar", "squashfs-tools"),
            *_OPTIONS,
            *("-root-mode", f"{root.mode:o}"),  # 4.5.1 ignores -root-uid, -root-gid, -root-time
            str(self._target),
        ]

    def _clear(self) -> None:
        self._target.unlink(missing_ok=True)

    def _sync(self) -> None:
        fd = os.open(self._target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with disk_errors(str(self._target.parent), f"{self._what} does not fit"):
                os.fdatasync(fd)
        finally:
            os.close(fd)
