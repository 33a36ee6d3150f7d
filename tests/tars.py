"""Making tars, good and hostile ones, and looking into what became of them."""

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """One entry: `kind` is a tarfile type, `xattrs` by full name."""

    name: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    owner: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, str] = field(default_factory=dict)
    mtime: int = 1_600_000_000


def folder(name: str, mode: int = 0o755, **more: Any) -> Item:
    """A directory's entry."""
    return Item(name, kind=tarfile.DIRTYPE, mode=mode, **more)


def symlink(name: str, to: str) -> Item:
    """A symbolic link's entry."""
    return Item(name, kind=tarfile.SYMTYPE, link=to, mode=0o777)


def hardlink(name: str, to: str) -> Item:
    """A hard link's entry."""
    return Item(name, kind=tarfile.LNKTYPE, link=to)


def make_tar(items: Iterable[Item], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of the items."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.mode, info.linkname = item.kind, item.mode, item.link
            info.uid = info.gid = item.owner
            info.devmajor, info.devminor = item.device
            info.mtime = item.mtime
            info.size = len(item.data)
            info.pax_headers = {f"SCHILY.xattr.{k}": v for k, v in item.xattrs.items()}
            tar.addfile(info, io.BytesIO(item.data) if item.data else None)
    return out.getvalue()


@dataclass(frozen=True)
class Seen:
    """What a name is in a disk image."""

    kind: str  # "file", "dir", "link", "whiteout", "device", "fifo"
    mode: int
    owner: int
    content: bytes
    xattrs: dict[str, bytes]
    links: int
    mtime: int


def look_into(image: Path, scratch: Path) -> dict[str, Seen]:
    """All names of a squashfs image, "" for its root; needs root."""
    subprocess.run(
        ["unsquashfs", "-q", "-n", "-f", "-d", str(scratch), str(image)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    found = {"": _see(scratch)}
    for directory, folders, files in os.walk(scratch):
        for name in (*folders, *files):
            path = Path(directory, name)
            found[str(path.relative_to(scratch))] = _see(path)
    return found


def _see(path: Path) -> Seen:
    facts = path.lstat()
    content = b""
    if stat.S_ISREG(facts.st_mode):
        kind, content = "file", path.read_bytes()
    elif stat.S_ISLNK(facts.st_mode):
        kind, content = "link", os.readlink(path).encode()
    elif stat.S_ISCHR(facts.st_mode):
        kind = "device" if facts.st_rdev else "whiteout"
    else:
        kind = "dir" if stat.S_ISDIR(facts.st_mode) else "fifo"
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    return Seen(
        kind,
        stat.S_IMODE(facts.st_mode),
        facts.st_uid,
        content,
        xattrs,
        facts.st_nlink if kind != "dir" else 1,
        int(facts.st_mtime),
    )
