"""Files of a container, read and written by hyperstart (docs/guest-protocol.md, "Files")."""

from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, Conflict, NotRunning
from ..guest.protocol import Code
from .containers import Process, check_id

if TYPE_CHECKING:
    from .sandbox import Sandbox

_OPS = ("stat", "get", "put", "upper", "changes")


async def begin_archive(sandbox: "Sandbox", cid: str, pid: str, request: dict[str, Any]) -> None:
    """Start to read (`get`, `upper`, `changes`, `stat`) or write (`put`) files of a container.

    The records are the output or the input of a process `pid` that is to be attached to, and
    that says on its stderr why it failed. `request` has `op`, `path`, `follow` and `rootfs_only`.
    Raises NotRunning, BadRequest, Conflict.
    """
    container = sandbox.containers.get(cid)
    if container.status not in ("created", "running", "paused"):
        raise NotRunning(f"container {cid} is not there: it is {container.status}")
    if check_id("process", pid) in container.processes:
        raise Conflict(f"process id {pid} is in use in container {cid}")
    op, path = request.get("op"), request.get("path", "/")
    if op not in _OPS or not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest(f"archive: {op!r} of {path!r} is not possible")
    sandbox.forget_finished(container)
    process = Process(sandbox.vm.streams, pid, terminal=False, stdin=op == "put", hold=True)
    container.processes[pid] = process
    archive = {"op": op, "path": path}
    archive |= {key: bool(request.get(key)) for key in ("follow", "rootfs_only")}
    message = {
        "id": pid,
        "archive": archive,
        "stdio": process.stdio,
        "stderr": process.stderr,
        "stdin": op == "put",
    }
    try:
        await sandbox.vm.request(Code.EXECCMD, {"container": cid, "process": message})
    except BaseException:
        container.processes.pop(pid, None)
        process.release()
        raise
