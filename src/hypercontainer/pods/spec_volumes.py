"""Volumes and files in a pod's specification."""

import base64
import binascii
import posixpath
import re
from dataclasses import dataclass

from ..errors import NotSupported
from .names import check_name
from .reading import Node, refuse

_PERM = re.compile(r"0[0-7]{3}|0", re.ASCII)
_CACHES = ("off", "none", "directsync", "writeback", "unsafe", "writethrough")
_UNSUPPORTED_FORMATS = ("raw", "qcow2", "vdi", "rbd", "nas")


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A volume: `source` is a path of the host; empty for one that hyperd keeps."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume in a container. With no name and no source it is anonymous."""

    path: str
    volume: VolumeSpec
    read_only: bool


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """A file put over the image's."""

    path: str
    content: str
    mode: int


def read_volume(node: Node) -> tuple[str, VolumeSpec]:
    """A UserVolume by its name."""
    name, source = node.text("name"), node.text("source")
    if name:
        check_name(name, node.where("name"))
    kind = node.text("format") or node.text("driver")
    node.take("driver")
    if kind in _UNSUPPORTED_FORMATS:
        raise NotSupported(f"{node.where('format')}: {kind} volumes are not supported yet")
    if kind not in ("", "vfs"):
        raise node.bad("format", f"unknown format {kind!r}")
    if source and (not source.startswith("/") or ".." in source.split("/")):
        raise node.bad("source", f"{source!r} is not an absolute path without '..'")
    refuse(node, "option", "fstype")
    disk_cache(node)
    node.done()
    return name, VolumeSpec(name, normal_path(source) if source else "")


def normal_path(path: str) -> str:
    """An absolute path without superfluous slashes and dots (normpath keeps a leading `//`)."""
    return posixpath.normpath("/" + path.lstrip("/"))


def disk_cache(node: Node) -> None:
    """The cache mode of a disk."""
    if cache := node.text("cache"):
        if cache not in _CACHES:
            raise node.bad("cache", f"{cache!r} is none of {', '.join(_CACHES)}")
        raise NotSupported(f"{node.where('cache')}: not supported yet")


def read_file_source(node: Node) -> tuple[str, str]:
    """The name and content of a UserFile."""
    name, content = node.text("name"), node.text("content")
    if not name:
        raise node.bad("name", "missing")
    refuse(node, "uri")
    encoding = node.choice("encoding", ("raw", "base64"), "raw")
    if encoding == "base64":
        try:
            content = base64.b64decode(content, validate=True).decode()
        except binascii.Error:
            raise node.bad("content", "is not base64") from None
        except UnicodeDecodeError:
            raise NotSupported(
                f"{node.where('content')}: binary files are not supported yet"
            ) from None
    node.done()
    return name, content


def read_mounts(node: Node, volumes: dict[str, VolumeSpec]) -> tuple[VolumeMount, ...]:
    """The volumes of a container; `volumes` are those of its pod."""
    result: dict[str, VolumeMount] = {}
    for item in node.objects("volumes"):
        path = item.text("path")
        if not path.startswith("/") or ".." in path.split("/") or normal_path(path) == "/":
            raise item.bad("path", f"{path!r} is not an absolute path below / without '..'")
        path = normal_path(path)
        if path in result:
            raise item.bad("path", f"{path} has two volumes")
        name, detail = item.text("volume"), item.child("detail")
        if detail is not None:
            inline_name, volume = read_volume(detail)
            volume = VolumeSpec(inline_name or name, volume.source)
        elif not name:
            volume = VolumeSpec("", "")
        elif name in volumes:
            volume = volumes[name]
        else:
            raise item.bad("volume", f"the pod has no volume {name!r}")
        result[path] = VolumeMount(path, volume, item.boolean("readOnly"))
        item.done()
    return tuple(result.values())


def read_injected(node: Node, files: dict[str, str]) -> InjectedFile:
    """A file of a container; `files` are those of its pod."""
    path, name = node.text("path"), node.text("filename")
    if not path.startswith("/"):
        raise node.bad("path", f"{path!r} is not an absolute path")
    detail = node.child("detail")
    if detail is not None:
        _, content = read_file_source(detail)
    elif name in files:
        content = files[name]
    else:
        raise node.bad("filename", f"the pod has no file {name!r}")
    for key in ("user", "group"):
        if node.text(key) not in ("", "root", "0"):
            raise NotSupported(f"{node.where(key)}: not supported yet")
    perm = node.text("perm") or "0755"
    if not _PERM.fullmatch(perm):
        raise node.bad("perm", f"{perm!r} is not a mode such as 0644")
    node.done()
    return InjectedFile(path + name if path.endswith("/") else path, content, int(perm, 8))
