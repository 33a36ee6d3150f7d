"""What a volume is, and what may be asked of one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadRequest, NotSupported

LOCAL, DISK = "local", "disk"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
MIN_DISK = 16 << 20
MAX_DISK = 64 << 40
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}", re.ASCII)
_SIZE = re.compile(r"(\d{1,15})([kmgt]?)(i?b)?", re.ASCII | re.IGNORECASE)
_NFS = ("nfs", "nfs4")


@dataclass(frozen=True, slots=True)
class NfsSource:
    """An export (`host:/path`) that the guest mounts, and the options of mount(8)."""

    source: str
    fstype: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume. `created` is RFC 3339; `directory` holds its data and description."""

    name: str
    driver: str
    options: Mapping[str, str]
    labels: Mapping[str, str]
    created: str
    directory: Path

    @property
    def anonymous(self) -> bool:
        """Whether it was made for one container, without a name given."""
        return ANONYMOUS_LABEL in self.labels

    @property
    def data(self) -> Path:
        """The directory that containers see, of a volume of the driver `local`."""
        return self.directory / "_data"

    @property
    def image(self) -> Path:
        """The disk image of a volume of the driver `disk`."""
        return self.directory / "disk.img"

    @property
    def nfs(self) -> NfsSource | None:
        """What the guest mounts instead, for one with the option `type` nfs."""
        if self.options.get("type") not in _NFS:
            return None
        return nfs_source(
            self.options.get("device", ""), "nfs4", self.options.get("o", ""), self.name
        )

    def to_json(self) -> dict[str, Any]:
        """Docker's form of it."""
        mountpoint = self.image if self.driver == DISK else self.data
        return {
            "CreatedAt": self.created,
            "Driver": self.driver,
            "Labels": dict(self.labels) or None,
            "Mountpoint": str(mountpoint),
            "Name": self.name,
            "Options": dict(self.options) or None,
            "Scope": "local",
        }


def check_volume_name(name: str, where: str = "name") -> None:
    """Raises BadRequest for a name that a volume can't have."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{where}: {name!r} is no name of a volume: up to 255 letters, digits, '_', '.' and"
            " '-', the first a letter or digit; a host path begins with '/'"
        )


def disk_size(text: str, where: str) -> int:
    """Bytes of `10g`, `512m`. Raises BadRequest."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) << " kmgt".index(match[2].lower() or " ") * 10 if match else 0
    if not MIN_DISK <= size <= MAX_DISK:
        raise BadRequest(f"{where}: {text!r} is not a size from 16m to 64t, such as 10g")
    return size


def check_options(driver: str, options: Mapping[str, str], where: str = "") -> None:
    """Raises BadRequest or NotSupported for a driver or an option that is not known."""
    prefix = f"{where}: " if where else ""
    if driver not in (LOCAL, DISK):
        raise NotSupported(
            f"{prefix}volume driver {driver!r} is not supported: there are {LOCAL} and {DISK}"
        )
    known = {LOCAL: ("type", "o", "device"), DISK: ("size",)}[driver]
    for name in options:
        if name not in known:
            raise BadRequest(
                f"{prefix}volume option {name!r} is unknown to the driver {driver}:"
                f" it has {', '.join(known)}"
            )
    if driver == DISK and "size" in options:
        disk_size(options["size"], f"{prefix}size")
    if driver == LOCAL and options:
        if options.get("type") not in _NFS:
            raise NotSupported(
                f"{prefix}a volume of the type {options.get('type')!r} is not supported: a local"
                " volume has no options, or the type nfs"
            )
        nfs_source(options.get("device", ""), "nfs4", options.get("o", ""), f"{prefix}device")


def nfs_source(device: str, fstype: str, options: str, where: str) -> NfsSource:
    """An NFS export; its host is that of `device`, or of the option `addr`. Raises BadRequest."""
    words = [word for word in options.split(",") if word]
    if any(c.isspace() or not c.isprintable() for c in device + options):
        raise BadRequest(f"{where}: spaces and control characters are not possible")
    address = [word.removeprefix("addr=") for word in words if word.startswith("addr=")]
    host, colon, path = device.rpartition(":/")
    host = host or (address[-1] if address else "")
    if not colon or not host:
        raise BadRequest(f"{where}: {device!r} is not HOST:/PATH")
    rest = tuple(word for word in words if not word.startswith("addr="))
    return NfsSource(f"{host}:/{path}", "nfs4" if fstype in _NFS else fstype, rest)
