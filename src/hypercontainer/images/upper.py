"""Writable disks of containers: sparse ext4 images, copied from a template of their size."""

import os
import subprocess
import uuid
from pathlib import Path

from ..errors import BadRequest, HyperError
from ..system import sparse
from .failures import disk_errors, find_program, readable_size

MINIMUM = 16 << 20  # bytes
MKFS_TIMEOUT = 120.0
# assume_storage_prezeroed: the guest need not zero what a sparse file holds as zeros already.
_EXTENDED = "root_owner=0:0,nodiscard,assume_storage_prezeroed=1"
_BLOCK = 4096


def make_upper(path: Path, size: int, cache: Path) -> None:
    """Make a sparse ext4 image of `size` bytes at `path`, mode 0600, owned by its root.

    Blocks: a few milliseconds, or as long as mkfs takes for the first of its size. Raises
    BadRequest (too small, or there already), NoSpace, NotSupported (no mkfs.ext4).
    """
    size -= size % _BLOCK
    if size < MINIMUM:
        raise BadRequest(
            f"a disk of {readable_size(size)} is too small: the least is {readable_size(MINIMUM)}"
        )
    template = cache / f"upper-{size}.ext4"
    if not template.exists():
        _make_template(template, size)
    try:
        with disk_errors(str(path.parent), f"the disk {path.name}"):
            _copy_sparse(template, path)
    except FileExistsError:
        raise BadRequest(f"can't make the disk {path}: it exists") from None


def _make_template(template: Path, size: int) -> None:
    mkfs = find_program("mkfs.ext4", "e2fsprogs")
    new = template.with_name(f"{template.name}.{uuid.uuid4().hex}.new")
    journal = 4 if size < 512 << 20 else 16  # MB
    command = [mkfs, "-q", "-F", "-b", str(_BLOCK), "-m", "0", "-J", f"size={journal}"]
    command += ["-O", "^resize_inode", "-E", _EXTENDED, str(new)]
    try:
        with disk_errors(str(template.parent), "a disk's template"):
            with open(new, "xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.truncate(size)
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=MKFS_TIMEOUT, check=False
            )
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
                raise HyperError(f"mkfs.ext4 failed for a disk of {readable_size(size)}: {reason}")
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.replace(new, template)
    finally:
        new.unlink(missing_ok=True)


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy a file's data, not its holes; shares its blocks where the file system can."""
    with open(source, "rb", buffering=0) as old, open(target, "xb", buffering=0) as new:
        try:
            os.fchmod(new.fileno(), 0o600)
            sparse.copy(old.fileno(), new.fileno())
        except BaseException:
            target.unlink()
            raise
