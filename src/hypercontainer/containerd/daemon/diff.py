"""The service of differences: layers as archives and as directories."""

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ...errors import BadRequest, NotRunning, NotSupported
from ...images.manifest import OCI_LAYER
from ...images.shared import in_thread
from ...images.unpack import Unpacking
from ..api import diff_pb2 as api
from ..api.types_pb2 import Descriptor, Mount
from .core import Core
from .server import Bounds, Call

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
        files, target = self._core.snapshots.files.root, Path(path)
        number = target.parent.name
        if target.name != "fs" or target.parent.parent != files or not number.isdigit():
            raise BadRequest(f"diff: {path[:200]!r} is no snapshot of this daemon")
        return target


def _open(path: Path) -> BinaryIO:
    return open(path, "rb", buffering=0)
