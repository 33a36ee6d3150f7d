"""The parts of a pod specification about volumes and injected files."""

import base64
import binascii
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from ..errors import BadRequest, NotSupported
from ..volumes.model import DISK, check_options, check_volume_name, nfs_source
from .reading import Node

CACHES = ("off", "none", "directsync", "writeback", "unsafe", "writethrough")
FORMATS = ("raw", "qcow2", "vdi", "vfs", "rbd", "nas", "tmpfs")
MAX_FILE = 1 << 20
"""Bytes of an injected file, and MAX_FILES of all of a container: they travel in one message."""
MAX_FILES = 2 << 20
_PERM = re.compile(r"0[0-7]{3}|0", re.ASCII)
_FSTYPE = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9_.-]{0,64}", re.ASCII)
_TMPFS = re.compile(r"(size|nr_inodes|mode|uid|gid)=[0-9]+[kmgt%]?", re.ASCII | re.IGNORECASE)
_TMPFS_FLAGS = {"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime"}


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A volume. `kind` says which of the fields count.

    volume: one that hyperd keeps, `name` (empty: anonymous), made of `driver`,
    `driver_options` and `labels` when it is missing. bind: the host's path `source`, which
    `must_exist` or is made a directory. image: the disk image `source` with `format`, `fstype`
    and `cache`. nfs: the export `source`, with mount `options`. tmpfs: with `options`.
    """

    kind: str
    name: str = ""
    source: str = ""
    format: str = ""
    fstype: str = ""
    cache: str = ""
    options: tuple[str, ...] = ()
    must_exist: bool = False
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume in a container. With `no_copy` it stays empty where the image has something."""

    path: str
    volume: VolumeSpec
    read_only: bool
    no_copy: bool = False

    @property
    def anonymous(self) -> bool:
        """Whether it is a volume of the container's own."""
        return self.volume.kind == "volume" and not self.volume.name


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """A file put over the image's: its `content`, or where to get it (`uri`).

    `owner` is USER[:GROUP] of the container, empty for root.
    """

    path: str
    content: bytes
    mode: int
    uri: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class FileSource:
    """The content of a UserFile, or where to get it."""

    content: bytes = b""
    uri: str = ""


def normal_path(path: str) -> str:
    """An absolute path without superfluous slashes and dots (normpath keeps a leading `//`)."""
    return posixpath.normpath("/" + path.lstrip("/"))


def disk_cache(node: Node) -> str:
    """The cache mode of a disk, "" for the default."""
    cache = node.text("cache")
    if cache and cache not in CACHES:
        raise node.bad("cache", f"{cache!r} is none of {', '.join(CACHES)}")
    return cache


def read_volume(node: Node) -> tuple[str, VolumeSpec]:
    """A UserVolume: its name in the pod, and what it is. Raises BadRequest, NotSupported."""
    name, source = node.text("name"), node.text("source")
    if name:
        check_volume_name(name, node.where("name"))
    kind = node.text("format") or node.text("driver")
    node.take("driver")
    if kind not in ("", *FORMATS):
        raise node.bad("format", f"{kind!r} is none of {', '.join(FORMATS)}")
    if kind in ("vdi", "rbd"):
        raise NotSupported(
            f"{node.where('format')}: {kind} volumes are not supported: convert the image to"
            " qcow2 or raw"
        )
    if node.take("option"):
        raise NotSupported(f"{node.where('option')}: rbd volumes are not supported")
    volume = _by_format(node, kind, name, source)
    node.done()
    return name, volume


def _by_format(node: Node, kind: str, name: str, source: str) -> VolumeSpec:
    cache, fstype = disk_cache(node), node.text("fstype")
    if fstype and not _FSTYPE.fullmatch(fstype):
        raise node.bad("fstype", f"{fstype!r} is not the name of a file system")
    options = node.text("options")
    create = node.child("create")
    must_exist = node.boolean("mustExist")
    if create is not None and (source or kind not in ("", "vfs")):
        raise create.bad("driver", "only a volume that hyperd keeps is made")
    if options and kind not in ("nas", "tmpfs"):
        raise node.bad("options", "only nas and tmpfs volumes have options")
    if kind not in ("raw", "qcow2") and cache:
        raise node.bad("cache", "only disk images (raw, qcow2) have a cache mode")
    if kind not in ("raw", "qcow2", "nas") and fstype:
        raise node.bad("fstype", "only disk images and nas volumes have a file system")
    if kind == "nas":
        if fstype not in ("", "nfs", "nfs4"):
            raise NotSupported(f"{node.where('fstype')}: {fstype} is not supported: nfs is")
        nfs = nfs_source(source, fstype or "nfs4", options, node.where("source"))
        return VolumeSpec("nfs", name, nfs.source, fstype=nfs.fstype, options=nfs.options)
    if kind == "tmpfs":
        if source:
            raise node.bad("source", "a tmpfs has none")
        return VolumeSpec("tmpfs", name, options=_tmpfs_options(node, options))
    if source and (not source.startswith("/") or ".." in source.split("/")):
        raise node.bad("source", f"{source!r} is not an absolute path without '..'")
    if kind in ("raw", "qcow2") and source:
        path = normal_path(source)
        return VolumeSpec("image", name, path, format=kind, fstype=fstype or "ext4", cache=cache)
    if kind == "qcow2":
        raise node.bad("source", "missing: which image?")
    if source:
        return VolumeSpec("bind", name, normal_path(source), must_exist=must_exist)
    driver = DISK if kind == "raw" else ""
    return _kept(create, name, driver) if create else VolumeSpec("volume", name, driver=driver)


def _kept(create: Node, name: str, driver: str) -> VolumeSpec:
    """A volume that is made with options when it is missing."""
    driver = create.text("driver") or driver
    options, labels = create.mapping("options"), create.mapping("labels")
    check_options(driver or "local", options, create.path)
    create.done()
    return VolumeSpec("volume", name, driver=driver, driver_options=options, labels=labels)


def _tmpfs_options(node: Node, options: str) -> tuple[str, ...]:
    words = tuple(word for word in options.split(",") if word)
    for word in words:
        if word not in _TMPFS_FLAGS and not _TMPFS.fullmatch(word):
            raise node.bad("options", f"{word!r} is not an option of tmpfs such as size=64m")
    return words


def read_mounts(node: Node, volumes: Mapping[str, VolumeSpec]) -> tuple[VolumeMount, ...]:
    """The `volumes` of a container, which refer to the pod's. Raises BadRequest."""
    result: dict[str, VolumeMount] = {}
    for item in node.objects("volumes"):
        path = item.text("path")
        if not path.startswith("/") or ".." in path.split("/") or normal_path(path) == "/":
            raise item.bad("path", f"{path!r} is not an absolute path below / without '..'")
        path = normal_path(path)
        if path in result:
            raise item.bad("path", f"{path} has two volumes")
        result[path] = VolumeMount(
            path, _mounted(item, volumes), item.boolean("readOnly"), item.boolean("noCopy")
        )
        item.done()
    return tuple(result.values())


def _mounted(item: Node, volumes: Mapping[str, VolumeSpec]) -> VolumeSpec:
    name, detail = item.text("volume"), item.child("detail")
    if detail is not None:
        own, volume = read_volume(detail)
        return volume if own or not name else replace(volume, name=name)
    if not name:
        return VolumeSpec("volume")
    if name not in volumes:
        raise item.bad("volume", f"the pod has no volume {name!r}")
    return volumes[name]


def read_file_source(node: Node) -> tuple[str, FileSource]:
    """A UserFile: its name and content, or where that is. Raises BadRequest, NotSupported."""
    name, content, uri = node.text("name"), node.text("content"), node.text("uri")
    if not name:
        raise node.bad("name", "missing")
    encoding = node.choice("encoding", ("raw", "base64"), "raw")
    node.done()
    if uri and content:
        raise node.bad("uri", "there is a content already")
    if uri:
        return name, FileSource(uri=_checked_uri(node, uri))
    data = content.encode(errors="surrogateescape")
    if encoding == "base64":
        try:
            data = base64.b64decode(content, validate=True)
        except binascii.Error:
            raise node.bad("content", "is not base64") from None
    if len(data) > MAX_FILE:
        raise node.bad("content", f"more than {MAX_FILE} bytes: use a volume")
    return name, FileSource(data)


def _checked_uri(node: Node, uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise node.bad("uri", f"{uri!r} is no URI") from None
    if parts.scheme not in ("http", "https", "file"):
        raise node.bad("uri", f"{uri!r} is none of http, https and file")
    if parts.scheme == "file" and (parts.netloc not in ("", "localhost") or not parts.path):
        raise node.bad("uri", f"{uri!r} is not file:///PATH")
    if parts.scheme != "file" and not parts.hostname:
        raise node.bad("uri", f"{uri!r} has no host")
    return uri


def read_injected(node: Node, files: Mapping[str, FileSource]) -> InjectedFile:
    """One of the `files` of a container. Raises BadRequest."""
    path, name = node.text("path"), node.text("filename")
    if not path.startswith("/") or ".." in path.split("/"):
        raise node.bad("path", f"{path!r} is not an absolute path without '..'")
    detail = node.child("detail")
    if detail is not None:
        own, source = read_file_source(detail)
        name = name or own
    elif name in files:
        source = files[name]
    else:
        raise node.bad("filename", f"the pod has no file {name!r}")
    if path.endswith("/"):
        if not name or "/" in name:
            raise node.bad("filename", f"{name!r} can't be a name in {path}")
        path += name
    user, group = node.text("user"), node.text("group")
    for key, value in (("user", user), ("group", group)):
        if not _OWNER.fullmatch(value):
            raise node.bad(key, f"{value!r} is neither a name nor a number")
    perm = node.text("perm") or "0755"
    if not _PERM.fullmatch(perm):
        raise node.bad("perm", f"{perm!r} is not a mode such as 0644")
    node.done()
    owner = f"{user or '0'}:{group}" if group else user
    return InjectedFile(normal_path(path), source.content, int(perm, 8), source.uri, owner)


def check_files(files: tuple[InjectedFile, ...], where: str) -> None:
    """Raises BadRequest for a path given twice, and for too much."""
    seen: set[str] = set()
    for index, file in enumerate(files):
        if file.path in seen:
            raise BadRequest(f"{where}[{index}].path: {file.path} is given twice")
        seen.add(file.path)
    if sum(len(file.content) for file in files) > MAX_FILES:
        raise BadRequest(f"{where}: more than {MAX_FILES} bytes in all: use a volume")
