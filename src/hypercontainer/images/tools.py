"""A read-only disk with the host's static busybox, for looking around in VMs: made when first used.

In the initrd it would cost each VM 2 MB of memory and each boot the time to unpack it.
"""

import subprocess
from pathlib import Path

from ..errors import HyperError, NotSupported
from . import busybox

FSTYPE = "squashfs"
_OPTIONS = "-comp lz4 -processors 1 -no-progress -quiet -exit-on-error -mkfs-time 0".split()
_BOUND = 60.0
_LINKS = {"sbin": "bin", "vm": "proc/1/root"}


def make_tools(directory: Path) -> Path:
    """The disk in `directory`; another busybox of the host makes another. Blocks.

    Raises NotSupported when there is no busybox-static or sqfstar, HyperError.
    """
    program = busybox.find()
    about = program.stat()
    disk = directory / f"busybox-{about.st_size}-{about.st_mtime_ns}.squashfs"
    if disk.exists():
        return disk
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    partial = disk.with_suffix(".part")
    try:
        done = subprocess.run(
            ["sqfstar", *_OPTIONS, str(partial)],
            input=busybox.layer(program, _LINKS),
            capture_output=True,
            timeout=_BOUND,
        )
    except FileNotFoundError:
        raise NotSupported("no program sqfstar: install squashfs-tools") from None
    except subprocess.TimeoutExpired as error:
        raise HyperError(f"make the disk of tools {disk}: sqfstar took more than {_BOUND} s") from (
            error
        )
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise HyperError(f"make the disk of tools {disk}: {why[-1] if why else 'sqfstar failed'}")
    partial.rename(disk)
    return disk
