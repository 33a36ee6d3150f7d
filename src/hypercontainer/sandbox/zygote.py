"""A process that has everything of a sandbox imported, and forks one for each request.

A daemon keeps one, so that a VM's start does not wait for Python's. The
sandboxes outlive it. It ends with the daemon, whose end of the socket closes.

A request is one packet: JSON with `id`, `state_dir` and `vm`, and two file
descriptors, the sandbox's stdout (see `process`) and stderr.
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from .config import VMConfig

_MODULE = "hypercontainer.sandbox.zygote"
_MAX_PACKET = 1 << 16


class Zygote:
    """The daemon's end. Not safe for use by several threads."""

    def __init__(self, sock: socket.socket, process: asyncio.subprocess.Process) -> None:
        self._sock = sock
        self._process = process

    @classmethod
    async def start(cls) -> "Zygote":
        """Start the process; it is ready when it has imported everything, requests wait."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", _MODULE, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        return cls(ours, process)

    def fork(
        self, sandbox_id: str, state_dir: Path, vm: VMConfig, stdout: int, stderr: int
    ) -> None:
        """Have it fork a sandbox. Raises OSError when it is gone."""
        request = {"id": sandbox_id, "state_dir": str(state_dir), "vm": vm.to_json()}
        socket.send_fds(self._sock, [json.dumps(request).encode()], [stdout, stderr])

    async def stop(self) -> None:
        """End the process; the sandboxes go on."""
        self._sock.close()
        await asyncio.wait_for(self._process.wait(), 10.0)


def main() -> int:
    """Serve requests on the socket that argv[1] numbers until its other end closes."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    from . import process, sandbox, server, vm

    del sandbox, server, vm
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        data, fds, _, _ = socket.recv_fds(sock, _MAX_PACKET, 2)
        if not data:
            return 0
        if os.fork() == 0:
            sock.close()
            _become_sandbox(process.run, json.loads(data), *fds)
        for fd in fds:
            os.close(fd)


def _become_sandbox(run: Any, request: dict[str, Any], stdout: int, stderr: int) -> None:
    code = 1
    try:
        os.setsid()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run(request["state_dir"], request)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
