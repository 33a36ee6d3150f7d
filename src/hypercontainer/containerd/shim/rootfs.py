"""The root file system, as containerd's snapshotters give it: mounts, or disk images.

What can be mounted on the host is, at the bundle's `rootfs`, and shared with the VM from there.
An image of a file system (ext4, erofs, squashfs) becomes a disk of the VM.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import BadRequest, HyperError, NotSupported
from ...guest.mounts import parse_options
from ...system import mountpoints, syscalls
from ...system.syscalls import MNT_DETACH, MS_BIND, MS_REC, MS_REMOUNT
from ...system.threads import in_directory

if TYPE_CHECKING:
    from ..api import types_pb2

_HOST_TYPES = ("bind", "overlay", "tmpfs")
_DISK_TYPES = ("ext4", "erofs", "squashfs")
_DISK_OPTIONS = ("loop", "ro", "rw", "defaults")
# mount(2) takes one page of options.
_MAX_DATA = 4095


class RootImage(NamedTuple):
    """`image` is what the sandbox is given instead of the directory, None for that itself;
    `read_only` says that nothing may be written to it."""

    image: dict[str, Any] | None
    read_only: bool


def prepare(mounts: "Iterable[types_pb2.Mount]", directory: str) -> RootImage:
    """Mount at `directory` what the host can mount; tell what is to become disks.

    Raises BadRequest, NotSupported and HyperError; nothing is mounted then.
    """
    wanted = list(mounts)
    if any(mount.type in _DISK_TYPES for mount in wanted):
        return _disk(wanted)
    try:
        for mount in wanted:
            _mount(mount, directory)
    except BaseException:
        release(directory)
        raise
    return RootImage(None, False)


def _disk(mounts: "list[types_pb2.Mount]") -> RootImage:
    mount = mounts[0]
    if len(mounts) > 1:
        kinds = ", ".join(m.type for m in mounts)
        raise NotSupported(f"rootfs of {kinds}: a disk image is supported alone only")
    if mount.target.strip("/"):
        raise NotSupported(f"rootfs: {mount.type} on {mount.target}: a disk is the root only")
    for option in mount.options:
        if option not in _DISK_OPTIONS:
            raise NotSupported(f"rootfs: {mount.type} image: option {option!r} is not supported")
    if not os.path.exists(mount.source):
        raise BadRequest(f"rootfs: {mount.type} image {mount.source} does not exist")
    disk = {"path": os.path.realpath(mount.source), "fstype": mount.type}
    if "ro" in mount.options or mount.type != "ext4":
        return RootImage({"kind": "overlay", "lower": [disk]}, True)
    return RootImage({"kind": "disk", **disk}, False)


def _mount(mount: "types_pb2.Mount", directory: str) -> None:
    options = list(mount.options)
    kind = "bind" if "bind" in options or "rbind" in options else mount.type
    if kind not in _HOST_TYPES:
        raise NotSupported(
            f"rootfs: mounts of type {kind!r} are not supported: {', '.join(_HOST_TYPES)} are,"
            f" and images of {', '.join(_DISK_TYPES)}"
        )
    target = _below(directory, mount.target)
    flags, propagation, data = parse_options(options, f"rootfs: {kind}")
    try:
        if kind == "bind":
            syscalls.mount(mount.source, target, "", MS_BIND | flags & MS_REC)
            if flags & ~(MS_BIND | MS_REC):
                syscalls.mount("", target, "", MS_BIND | MS_REMOUNT | flags & ~MS_REC)
        elif kind == "overlay" and len(data) > _MAX_DATA:
            _mount_long(mount.source, target, flags, data)
        else:
            syscalls.mount(mount.source, target, kind, flags, data)
        if propagation:
            syscalls.mount("", target, "", propagation)
    except OSError as error:
        raise HyperError(f"rootfs: {kind} of {mount.source or 'layers'}: {error}") from None


def _below(directory: str, target: str) -> str:
    path = os.path.join(directory, target.strip("/")) if target.strip("/") else directory
    if os.path.realpath(path) != os.path.normpath(path):
        raise BadRequest(f"rootfs: target {target!r} leads out of the root file system")
    if not os.path.isdir(path):
        raise BadRequest(f"rootfs: target {target!r} does not exist")
    return path


def _mount_long(source: str, target: str, flags: int, data: str) -> None:
    """An overlay of many layers: they are named relative to what their paths have in common."""
    options = data.split(",")
    layers = next(o.partition("=")[2] for o in options if o.startswith("lowerdir=")).split(":")
    common = os.path.commonpath(layers)
    relative = ":".join(os.path.relpath(layer, common) for layer in layers)
    short = [f"lowerdir={relative}" if o.startswith("lowerdir=") else o for o in options]
    if len(text := ",".join(short)) > _MAX_DATA:
        raise HyperError(f"rootfs: {len(layers)} layers are too many for mount(2)")
    in_directory(common, lambda: syscalls.mount(source, target, "overlay", flags, text))


def make_read_only(config: dict[str, Any]) -> None:
    """Say in a configuration that its root file system is read-only."""
    config["root"] = {**(config.get("root") or {}), "readonly": True}


def release(directory: str) -> None:
    """Unmount whatever is mounted at `directory` or below."""
    for path in sorted(mountpoints.below(directory), key=len, reverse=True):
        try:
            syscalls.umount(path, MNT_DETACH)
        except OSError:
            continue
