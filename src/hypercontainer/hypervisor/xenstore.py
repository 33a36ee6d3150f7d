"""Xen's store: how domains and what serves their devices find each other.

The kernel's device for it is spoken to directly: a device is plugged by a transaction of a few
writes, in milliseconds, where a command takes a process each. The messages are those of
xen/include/public/io/xs_wire.h.
"""

import errno
import os
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import VMError

DEVICE = "/dev/xen/xenbus"
_BOUND = 20.0
_HEADER = struct.Struct("=IIII")
_MAX_PAYLOAD = 4096
_DIRECTORY, _READ, _WRITE, _MKDIR, _RM, _SET_PERMS = 1, 2, 11, 12, 13, 14
_START, _END, _EVENT, _ERROR = 6, 7, 15, 16


class XenStore:
    """A connection to the store. Not for several threads at once."""

    def __init__(self) -> None:
        """Raises VMError where there is no store."""
        try:
            self._fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise VMError(
                f"xenstore can't be reached at {DEVICE}: {(error.strerror or '').lower()}: start"
                " Xen's services (/etc/init.d/xen start)"
            ) from error
        self._transaction = 0

    def close(self) -> None:
        """Let the store go."""
        os.close(self._fd)

    def read(self, path: str) -> str:
        """The value of a node, "" when there is none. Raises VMError."""
        return self._ask(_READ, path.encode() + b"\0", missing=b"").decode(errors="replace")

    def list(self, path: str) -> list[str]:
        """The names below a node; none when it is not there. Raises VMError."""
        found = self._ask(_DIRECTORY, path.encode() + b"\0", missing=b"")
        return [name.decode(errors="replace") for name in found.split(b"\0") if name]

    def write(self, path: str, value: str) -> None:
        """Set the value of a node, which is made with those above it. Raises VMError."""
        self._ask(_WRITE, path.encode() + b"\0" + value.encode())

    def remove(self, path: str) -> None:
        """Remove a node and all below; one that is not there is fine. Raises VMError."""
        self._ask(_RM, path.encode() + b"\0", missing=b"")

    def make(self, path: str, owner: int, reader: int) -> None:
        """Make a directory of the domain `owner`, which `reader` may read too. Raises VMError."""
        self._ask(_MKDIR, path.encode() + b"\0")
        self._ask(_SET_PERMS, f"{path}\0n{owner}\0r{reader}\0".encode())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do what the body does at once: others see nothing of it before. Raises VMError.

        The body must not depend on what it reads: when others changed the same meanwhile, it is
        not done again, and the error says so.
        """
        self._transaction = int(self._ask(_START, b"\0").rstrip(b"\0"))
        try:
            yield
        except BaseException:
            self._ask(_END, b"F\0")
            raise
        else:
            self._ask(_END, b"T\0")
        finally:
            self._transaction = 0

    def _ask(self, kind: int, payload: bytes, missing: bytes | None = None) -> bytes:
        if len(payload) > _MAX_PAYLOAD:
            raise VMError(f"xenstore takes {_MAX_PAYLOAD} bytes at the most")
        os.write(self._fd, _HEADER.pack(kind, 0, self._transaction, len(payload)) + payload)
        answered, answer = self._message()
        while answered == _EVENT:
            answered, answer = self._message()
        if answered != _ERROR:
            return answer
        name = answer.rstrip(b"\0").decode(errors="replace")
        if name == "ENOENT" and missing is not None:
            return missing
        why = os.strerror(getattr(errno, name, errno.EIO)).lower()
        what = payload.split(b"\0")[0].decode(errors="replace")
        raise VMError(f"xenstore refused a request for {what or 'a transaction'}: {why}")

    def _message(self) -> tuple[int, bytes]:
        kind, _, _, length = _HEADER.unpack(self._exactly(_HEADER.size))
        return kind, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not select.select([self._fd], [], [], _BOUND)[0]:
                raise VMError(f"xenstore did not answer in {_BOUND:.0f} s")
            data += os.read(self._fd, size - len(data))
        return data
