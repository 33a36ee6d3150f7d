"""`containerd-shim-runv-v2 delete`: what a shim that was killed has left of a container."""

import os
import time

from ...errors import NotFound
from ...oci import records
from . import address, rootfs

KILLED = 137
# Of DeleteResponse (containerd.task.v2) and Timestamp (google.protobuf).
_EXIT_STATUS, _EXITED_AT = 2, 3
_SECONDS, _NANOS = 1, 2
_VARINT, _LENGTH = 0, 2


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
    """The DeleteResponse that containerd takes as the container's end.

    Written by hand (protobuf's encoding, "Message Structure"): containerd waits for this command
    at the end of each container, and the library takes 70 ms to import.
    """
    now = time.time_ns()
    exited_at = _number(_SECONDS, now // 10**9) + _number(_NANOS, now % 10**9)
    return _number(_EXIT_STATUS, KILLED) + _bytes(_EXITED_AT, exited_at)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
