"""Layers of a lab machine's root: squashfs images, made from tar streams.

The guest stacks them by overlayfs, so that each is made only when its own inputs change.
"""

import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from .errors import LabError

BOUND = 1800.0
_OPTIONS = "-comp lz4 -no-progress -quiet -exit-on-error -mkfs-time 0".split()


def make(target: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Make `target` of the tar stream that `write` writes. Raises LabError."""
    try:
        process = subprocess.Popen(
            ["sqfstar", *_OPTIONS, str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise LabError("sqfstar not found: run tools/setup run") from None
    assert process.stdin is not None
    try:
        try:
            write(process.stdin)
            _, said = process.communicate(timeout=BOUND)
        except BrokenPipeError:
            said = process.communicate(timeout=BOUND)[1]
        if process.returncode:
            raise LabError(f"{target.name}: sqfstar failed: {said.decode().strip()[-300:]}")
    except BaseException:
        process.kill()
        process.wait()
        target.unlink(missing_ok=True)
        raise


def of_paths(target: Path, paths: Iterable[tuple[Path, Path]], leave_out: frozenset[str]) -> None:
    """Make `target` of files and directories of this host, each with its path in the guest.

    What is named as in `leave_out` stays out. Raises LabError.
    """

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(entry.name).name in leave_out else entry

    def write(stream: IO[bytes]) -> None:
        made: set[Path] = set()
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for source, place in paths:
                for parent in reversed(place.parents[:-1]):
                    if parent not in made:
                        made.add(parent)
                        tar.addfile(_directory(parent))
                tar.add(source, arcname=place, filter=wanted)

    make(target, write)


def _directory(path: Path) -> tarfile.TarInfo:
    """A directory on the way to a file, with the mode that this host gives it."""
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    entry.type = tarfile.DIRTYPE
    entry.mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o755
    return entry
