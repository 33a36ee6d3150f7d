"""Unix sockets by `_socket`, which `socket` wraps in enumerations and selectors."""

import _socket
import sys


class Socket(_socket.socket):
    """A Unix socket that `with` closes."""

    __slots__ = ()

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stream() -> Socket:
    """A stream socket. Raises OSError."""
    return Socket(_socket.AF_UNIX, _socket.SOCK_STREAM)


def packets() -> Socket:
    """A socket that keeps the boundaries of packets. Raises OSError."""
    return Socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Two stream sockets that are connected. Raises OSError."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)


def send_fds(sock: _socket.socket, data: bytes, fds: list[int]) -> int:
    """Send data with descriptors (unix(7), SCM_RIGHTS); returns the bytes sent. Raises OSError."""
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    return sock.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def peer_user(sock: _socket.socket) -> int:
    """The user of the process at the other end (unix(7), SO_PEERCRED). Raises OSError."""
    credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)
