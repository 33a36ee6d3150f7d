"""`containerd-shim-runv-v2 delete`: what a shim that was killed has left of a container."""

import os
import time

from ...errors import NotFound
from ...oci import records
from . import address, rootfs

KILLED = 137


def clean(namespace: str, cid: str, bundle: str) -> bool:
    """End the container's VM if nobody else is in it, its processes, groups, mounts and records.

    Returns whether there was anything of it. Raises HyperError.
    """
    root = address.root_of(namespace)
    records.check_id(cid)
    found = os.path.isdir(records.directory(root, cid))
    if found:
        from ...oci.lifecycle import destroy

        try:
            with records.locked(root, cid):
                destroy(root, cid)
        except NotFound:
            found = False
    if bundle:
        rootfs.release(os.path.join(os.path.realpath(bundle), "rootfs"))
        path = address.read(bundle)
        if path.startswith(f"{address.SOCKETS}/") and not address.is_served(path):
            address.remove(path)
    return found


def response() -> bytes:
    """The DeleteResponse that containerd takes as the container's end."""
    from google.protobuf.timestamp_pb2 import Timestamp

    from ..api import shim_task_pb2

    now = time.time_ns()
    at = Timestamp(seconds=now // 10**9, nanos=now % 10**9)
    return shim_task_pb2.DeleteResponse(exit_status=KILLED, exited_at=at).SerializeToString()
