"""The service of differences: layers as archives and as directories."""

import asyncio
import hashlib
import os
import threading
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ...errors import BadRequest, Conflict, NotRunning, NotSupported
from ...images.contentfiles import Ingest
from ...images.difference import layer_of
from ...images.manifest import OCI_LAYER
from ...images.passage import Cancelled
from ...images.shared import in_thread
from ...images.unpack import Unpacking
from ..api import diff_pb2 as api
from ..api.types_pb2 import Descriptor, Mount
from .core import Core
from .server import Bounds, Call

_PACKED = (f"{OCI_LAYER}+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
_UNCOMPRESSED = "containerd.io/uncompressed"
_LEVEL = 3
_BOUNDS: Bounds = {"Apply": 3600.0, "Diff": 3600.0}


class Diff:
    """From the content store into snapshots, and back."""

    descriptor = api.DESCRIPTOR.services_by_name["Diff"]
    bounds = _BOUNDS

    def __init__(self, core: Core) -> None:
        self._core = core

    async def apply(self, request: api.ApplyRequest, call: Call) -> api.ApplyResponse:
        """Unpack a layer of the content store into a snapshot; the digest of its plain tar.

        Raises NotFound, BadRequest, NotSupported (other mounts), NotRunning (a snapshot that has
        files already), BadImage, NoSpace.
        """
        if request.payloads:
            raise NotSupported("diff: payloads, such as keys of encrypted layers, are not known")
        info = self._core.content.find(call.namespace, request.diff.digest)
        target = self._written_to(request.mounts)
        if await asyncio.to_thread(os.listdir, target):
            raise NotRunning(f"the snapshot at {target} has files: a layer goes into an empty one")
        blob = partial(_open, self._core.content.files.path(info.digest))
        unpacking = Unpacking(blob, target, f"layer {info.digest[7:19]}", None)
        done = await in_thread(unpacking.run, unpacking.cancel)
        applied = Descriptor(media_type=OCI_LAYER, digest=done.diff_id, size=done.tar_size)
        return api.ApplyResponse(applied=applied)

    async def diff(self, request: api.DiffRequest, call: Call) -> api.DiffResponse:
        """Put what one snapshot has over another one into the content store, as a layer.

        Raises NotSupported for what is not the next one above, BadRequest, NoSpace.
        """
        packed = request.media_type in ("", *_PACKED)
        if not packed and request.media_type != OCI_LAYER:
            raise NotSupported(f"diff: layers of type {request.media_type[:80]!r} are not made")
        directory = await asyncio.to_thread(_difference, request.left, request.right)
        self._check_place(directory)
        store = self._core.content
        writer = await store.open(call, request.ref or f"diff-{uuid.uuid4().hex}", 0, "")
        try:
            cancelled = threading.Event()
            make = partial(_write_layer, directory, writer.ingest, packed, cancelled)
            diff_id = await in_thread(make, cancelled.set)
            labels = {_UNCOMPRESSED: diff_id, **request.labels}
            digest, size = writer.ingest.digest, writer.ingest.offset
            with suppress(Conflict):
                await store.commit(writer, 0, "", labels)
        finally:
            await store.close(writer)
        kind = request.media_type or _PACKED[0]
        return api.DiffResponse(diff=Descriptor(media_type=kind, digest=digest, size=size))

    def _written_to(self, mounts: Sequence[Mount]) -> Path:
        """The directory of a snapshot that its mounts write to."""
        if len(mounts) != 1:
            raise NotSupported(f"diff: {len(mounts)} mounts are given, one is understood")
        mount = mounts[0]
        path = ""
        if mount.type == "bind" and "ro" not in mount.options:
            path = mount.source
        elif mount.type == "overlay":
            found = [o[len("upperdir=") :] for o in mount.options if o.startswith("upperdir=")]
            path = found[0] if found else ""
        elif mount.type != "bind":
            raise NotSupported(f"diff: a mount of type {mount.type[:40]!r} is not understood")
        if not path:
            raise BadRequest("diff: the mount is read-only: prepare a snapshot to write to")
        self._check_place(Path(path))
        return Path(path)

    def _check_place(self, path: Path) -> None:
        """Raises BadRequest for a directory that is no snapshot's."""
        files, number = self._core.snapshots.files.root, path.parent.name
        if path.name != "fs" or path.parent.parent != files or not number.isdigit():
            raise BadRequest(f"diff: {str(path)[:200]!r} is no snapshot of this daemon")


def _stack(mounts: Sequence[Mount]) -> list[str]:
    """The directories that mounts stack, the uppermost first."""
    if len(mounts) > 1:
        raise NotSupported(f"diff: {len(mounts)} mounts are given, one is understood")
    for mount in mounts:
        if mount.type == "bind":
            return [mount.source]
        if mount.type != "overlay":
            raise NotSupported(f"diff: a mount of type {mount.type[:40]!r} is not understood")
        options = dict(option.partition("=")[::2] for option in mount.options)
        upper = [options["upperdir"]] if "upperdir" in options else []
        return [*upper, *options.get("lowerdir", "").split(":")]
    return []


def _difference(left: Sequence[Mount], right: Sequence[Mount]) -> Path:
    """The directory that `right` has over `left`. Blocks."""
    below, above = _stack(left), _stack(right)
    if len(above) == 1 and len(below) == 1 and not os.listdir(below[0]):
        below = []  # a view of nothing
    if not above or above[1:] != below:
        raise NotSupported("diff: the snapshots are not one based on the other")
    return Path(above[0])


def _write_layer(directory: Path, ingest: Ingest, packed: bool, cancelled: threading.Event) -> str:
    """Write a directory's layer; the digest of its plain tar. Blocks."""
    plain = hashlib.sha256()
    deflater = zlib.compressobj(_LEVEL, wbits=31)
    ingest.cut(0)
    for piece in layer_of(os.fsencode(directory)):
        if cancelled.is_set():
            raise Cancelled
        plain.update(piece)
        ingest.write(deflater.compress(piece) if packed else piece)
    if packed:
        ingest.write(deflater.flush())
    return f"sha256:{plain.hexdigest()}"


def _open(path: Path) -> BinaryIO:
    return open(path, "rb", buffering=0)
