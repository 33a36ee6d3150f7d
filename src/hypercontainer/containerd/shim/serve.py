"""The server process of a shim."""

import os
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from .main import Flags

_PUBLISH_BOUND = 10.0
_OOM_STEP = 1
_LOG = "log"


def serve(listener: socket.socket, path: str, flags: "Flags", *, nursery: bool) -> NoReturn:
    """Serve the Task service in this process, which was forked for it, until containerd wants
    no more of it; leave a `nursery` for the next ones if asked to. Never returns."""
    status = 1
    try:
        _leave_caller()
        _serve(listener, path, flags, nursery)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _leave_caller() -> None:
    """No descriptor of the caller's is kept, which waits for the end of our output."""
    os.setsid()
    log = _open_log()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd, source in ((0, null), (1, null), (2, log if log >= 0 else null)):
        os.dup2(source, fd)
    os.chdir("/")
    _yield_memory()


def _open_log() -> int:
    """containerd's FIFO for our log, in the bundle; one that nobody reads takes what fits."""
    try:
        return os.open(_LOG, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1


def _yield_memory() -> None:
    """When memory runs out, containerd is to survive its shims."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            adjust = min(int(file.read()) + _OOM_STEP, 1000)
            file.seek(0)
            file.write(str(adjust))
    except OSError:
        return


def _serve(listener: socket.socket, path: str, flags: "Flags", nursery: bool) -> None:
    from ..ttrpc.server import Server
    from . import address
    from .publisher import Publisher
    from .service import SERVICE, TaskService

    publisher = Publisher(
        os.environ.get("TTRPC_ADDRESS", ""),
        flags.values.get("address", ""),
        flags.values.get("publish-binary") or "containerd",
        flags.values["namespace"],
    )
    server: Server
    service = TaskService(flags.values["namespace"], publisher, lambda: server.stop())
    server = Server(listener, {SERVICE: service.endpoints()})
    if nursery:
        from .nursery import leave

        leave()
    server.serve()
    address.remove(path)
    publisher.close(_PUBLISH_BOUND)
