"""What a service manager gives hyperd: listening sockets.

The protocol of sd_listen_fds(3), which systemd and others speak.
"""

import os
import socket

from ..errors import BadRequest, HyperError

_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets that were passed to this process; taken once, children get none.

    Raises BadRequest for what is no listening stream socket.
    """
    pid, count, _ = (os.environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()):
        return []
    try:
        return [_taken(_FIRST + number) for number in range(int(count))]
    except (OSError, ValueError) as error:
        raise BadRequest(f"LISTEN_FDS={count}: the sockets passed can't be used: {error}") from None


def _taken(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    sock.setblocking(False)
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.type != socket.SOCK_STREAM or not listens:
        raise ValueError(f"descriptor {descriptor} is no listening stream socket")
    return sock


def name_of(sock: socket.socket) -> str:
    """A listening socket as an address: unix://PATH or tcp://ADDRESS:PORT."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix://{address}"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"tcp://{host}:{address[1]}"


def need_sockets(sockets: list[socket.socket]) -> None:
    """Raises HyperError when `Host` is fd:// and none were passed."""
    if not sockets:
        raise HyperError(
            "listen on fd://: no sockets were passed (LISTEN_FDS): start hyperd by"
            " hyperd.socket, or without fd://"
        )
