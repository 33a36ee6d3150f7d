"""Layers as directories, for containerd's clients: beside hyperd's disk images, which are smaller.

snapshots/N/fs      the files of a layer or a container, in overlayfs' form
snapshots/N/work    what overlayfs needs beside a directory that it writes to
snapshots/gone-N    on its way out
"""

import os
import shutil
from collections.abc import Container
from pathlib import Path


class SnapshotFiles:
    """The folder `snapshots` of an image store. Its methods block."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder of the image store, which is made if it is missing."""
        self.root = root / "snapshots"
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.root.mkdir(exist_ok=True, mode=0o700)

    def files(self, number: int) -> Path:
        """The files of a snapshot."""
        return self.root / str(number) / "fs"

    def work(self, number: int) -> Path:
        """overlayfs' own directory of a snapshot that is written to."""
        return self.root / str(number) / "work"

    def make(self, number: int, below: int | None) -> None:
        """Make an empty one, whose root has the attributes of the one below it."""
        directory = self.root / str(number)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        files = self.files(number)
        files.mkdir(mode=0o755)
        self.work(number).mkdir(mode=0o711)
        if below is not None:
            about = self.files(below).stat()
            os.chown(files, about.st_uid, about.st_gid)
            os.chmod(files, about.st_mode & 0o7777)

    def retire(self, number: int) -> Path:
        """Take one out of the way, in one step; `shutil.rmtree` does the rest."""
        gone = self.root / f"gone-{number}"
        shutil.rmtree(gone, ignore_errors=True)
        try:
            os.rename(self.root / str(number), gone)
        except FileNotFoundError:
            pass
        return gone

    def usage(self, number: int) -> tuple[int, int]:
        """Bytes on disk, and how many files and directories, of a snapshot's own files."""
        size, seen = 0, set()
        for directory, _, names in os.walk(self.files(number)):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                try:
                    about = os.lstat(path)
                except FileNotFoundError:
                    continue
                if about.st_ino not in seen:
                    seen.add(about.st_ino)
                    size += about.st_blocks * 512
        return size, len(seen)

    def remove_others(self, numbers: Container[int]) -> None:
        """Remove what nobody knows of any more: a killed daemon left it."""
        for path in self.root.iterdir():
            if not path.name.isdigit() or int(path.name) not in numbers:
                shutil.rmtree(path, ignore_errors=True)
