"""The directories of tasks: what their shims are given, and where these are found again."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ...errors import Conflict, NotFound
from ...system import mountpoints, syscalls

_PARENT = "io.containerd.runtime.v2.task"
SHIM = "containerd-shim-runv-v2"


class Bundles:
    """Below the state directory, as containerd has them: NAMESPACE/ID. The methods block."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / _PARENT

    def path(self, namespace: str, task_id: str) -> Path:
        """Where a task's is."""
        return self._root / namespace / task_id

    def make(self, namespace: str, task_id: str, spec: bytes) -> Path:
        """Make one, with the specification. Raises Conflict."""
        path = self.path(namespace, task_id)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        try:
            path.mkdir(mode=0o711)
        except FileExistsError:
            raise Conflict(f"task {task_id!r}: already exists") from None
        try:
            (path / "rootfs").mkdir(mode=0o711)
            (path / "config.json").write_bytes(spec)
            os.mkfifo(path / "log", 0o600)
        except BaseException:
            self.remove(path)
            raise
        return path

    def remove(self, path: Path) -> None:
        """Remove one. What is mounted in it is unmounted, and never removed."""
        for point in reversed(mountpoints.below(str(path))):
            if point != str(path):
                syscalls.umount(point, syscalls.MNT_DETACH)
        try:
            entries = list(os.scandir(path))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
        path.rmdir()
        try:
            path.parent.rmdir()
        except OSError:
            pass  # other tasks of the namespace

    def all(self) -> Iterator[tuple[str, str]]:
        """Namespaces and ids of all that are there."""
        for path in sorted(self._root.glob("*/*")):
            yield path.parent.name, path.name


def shim_program() -> str:
    """The shim's program, beside this one or in PATH. Raises NotFound."""
    beside = Path(sys.executable).parent / SHIM
    found = str(beside) if beside.exists() else shutil.which(SHIM)
    if found is None:
        raise NotFound(f"no program {SHIM}: it is installed with runv-containerd")
    return found
