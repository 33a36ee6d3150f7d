"""Where a shim listens, one for a container or for all of a pod, and where its records are."""

import errno
import os
import socket

from ...errors import BadRequest

SOCKETS = "/run/containerd/s"
_RECORDS = "/run/containerd/runv"
_PREFIX = "unix://"
_FILE = "address"
_BACKLOG = 256
_CONNECT_BOUND = 5.0


def root_of(namespace: str) -> str:
    """The root directory of runv for containers of a namespace. Raises BadRequest."""
    if not namespace or "/" in namespace or namespace in (".", ".."):
        raise BadRequest(f"namespace {namespace!r} is not valid")
    return f"{_RECORDS}/{namespace}"


def socket_path(containerd: str, namespace: str, group: str) -> str:
    """The path for a group of containers of the containerd at the address `containerd`."""
    import hashlib

    name = hashlib.sha256("\0".join((containerd, namespace, group)).encode()).hexdigest()
    return f"{SOCKETS}/{name}"


def listen(path: str) -> socket.socket | None:
    """Take the path, which only root may connect to; None when a shim that lives has it.

    Raises OSError.
    """
    os.makedirs(SOCKETS, mode=0o711, exist_ok=True)
    for _ in range(3):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            sock.bind(path)
            sock.listen(_BACKLOG)
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
        finally:
            os.umask(mask)
        if is_served(path):
            return None
        remove(path)
    return None


def is_served(path: str) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_CONNECT_BOUND)
        try:
            sock.connect(path)
        except OSError:
            return False
        return True


def remove(path: str) -> None:
    """Remove the socket; gone already is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def write(bundle: str, path: str) -> str:
    """Note in the bundle where its shim is, for a containerd that is restarted.

    Returns the address as containerd wants it.
    """
    from ...system.files import write_atomic

    address = _PREFIX + path
    write_atomic(os.path.join(bundle, _FILE), address.encode(), 0o600)
    return address


def read(bundle: str) -> str:
    """The path of the shim's socket that the bundle names; "" without one."""
    try:
        with open(os.path.join(bundle, _FILE)) as file:
            return file.read(4096).strip().removeprefix(_PREFIX)
    except OSError:
        return ""
