"""Shims forked from a process that has everything imported; the first shim leaves it behind.

A request is one packet: JSON with what of `start` the server takes over (`cwd`, `environ`,
`oom_score_adj`, `path`, `values`), and the descriptor of its socket. The process ends when
nobody has asked for five minutes.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from ...sandbox import meeting

if TYPE_CHECKING:
    from .main import Flags

_MODULE = "hypercontainer.containerd.shim.nursery"
_LAYERS = (
    *("containerd/api", "containerd/shim", "containerd/ttrpc"),
    *("oci", "sandbox", "hypervisor", "guest", "system"),
)
_NAMESPACES = ("mnt", "net", "pid", "user", "uts", "ipc", "cgroup")
_MAX_PACKET = 1 << 17
_IDLE = 300.0
_LOOK_MS = 5000
_NICE = 10


def name() -> str:
    """The name of the process that can serve this one."""
    return f".shims-{meeting.key(_LAYERS, _NAMESPACES)}"


def hand_over(listener: socket.socket, path: str, flags: "Flags") -> bool:
    """Have a shim serve `listener`; returns whether there is a process that forks one."""
    with open("/proc/self/oom_score_adj") as file:
        adjust = int(file.read())
    request = {
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "oom_score_adj": adjust,
        "path": path,
        "values": flags.values,
    }
    packet = json.dumps(request).encode()
    return len(packet) <= _MAX_PACKET and meeting.ask(name(), packet, [listener.fileno()])


def leave() -> None:
    """Leave such a process for the next shim; it outlives this one. Where none can be, none is."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", _MODULE],
            os.environ,
            file_actions=null,
            setsid=True,
        )
    except OSError:
        return


def main() -> int:
    """Fork shims until nobody asked for one for five minutes."""
    try:
        found = meeting.Meeting(name())
    except OSError:
        return 0
    try:
        _serve(found)
    finally:
        found.end()
    return 0


def _serve(found: meeting.Meeting) -> None:
    import gc

    from ...sandbox import place

    os.chdir("/")
    os.nice(_NICE)
    place.name_process("hyper-shims")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _import_all()
    gc.collect()
    gc.freeze()
    found.open()
    os.nice(-_NICE)
    poller = select.poll()
    poller.register(found.listener, select.POLLIN)
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + _IDLE and found.stands:
        if poller.poll(_LOOK_MS):
            idle_since = time.monotonic()
            found.serve(_take)


def _import_all() -> None:
    from ...oci import execute, lifecycle, making
    from ..ttrpc import server
    from . import cleanup, publisher, serve, service, stats

    del execute, lifecycle, making, server, cleanup, publisher, serve, service, stats


def _take(connection: socket.socket) -> None:
    """Fork the shim that a packet asks for."""
    packet, fds, _, _ = socket.recv_fds(connection, _MAX_PACKET, 1)
    try:
        request = json.loads(packet)
        if len(fds) == 1 and os.fork() == 0:
            _become_shim(request, fds[0])
    finally:
        for fd in fds:
            os.close(fd)


def _become_shim(request: dict[str, object], listener: int) -> None:
    """Never returns."""
    from ...sandbox import place
    from .main import Flags
    from .serve import serve

    try:
        place.only_descriptors([listener])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        place.name_process("containerd-shim")
        os.chdir(str(request["cwd"]))
        environ, values = request["environ"], request["values"]
        assert isinstance(environ, dict) and isinstance(values, dict)
        os.environ.clear()
        os.environ.update(environ)
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(request["oom_score_adj"]))
        sock = socket.socket(fileno=listener)
        serve(sock, str(request["path"]), Flags(values, frozenset(), "start"), nursery=False)
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
