"""The process that forks a daemon's sandboxes, so that a VM's start does not wait for Python's.

A daemon keeps one. The sandboxes outlive it. It ends with the daemon, whose end of the socket
closes, and the VMs that it keeps ready with it. See `forkserver` for what it is sent.
"""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from . import place
from .config import VMConfig

_MODULE = "hypercontainer.sandbox.zygote"
_FOREVER = 3600.0


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
        self,
        wanted: dict[str, Any],
        state_dir: Path,
        vm: VMConfig,
        stdout: int,
        stderr: int,
        *,
        keep: int = 0,
    ) -> None:
        """Have it start a sandbox for a request of `process.run`, on a ready VM if it has one.

        `keep` VMs like it are ready for the next few minutes. Raises OSError when it is gone.
        """
        request = {
            **wanted,
            "state_dir": str(state_dir),
            "keep": [[vm.to_json(), keep, place.IDLE]] if keep else [],
            **place.describe([]),
        }
        mounts = place.namespace()
        try:
            socket.send_fds(self._sock, [json.dumps(request).encode()], [stdout, stderr, mounts])
        finally:
            os.close(mounts)

    def keep(self, vm: VMConfig, count: int) -> None:
        """Have it keep `count` VMs like `vm` ready, cloned and paused. Raises OSError."""
        self._sock.send(json.dumps({"keep": [[vm.to_json(), count, None]]}).encode())

    async def stop(self) -> None:
        """End the process; the sandboxes go on."""
        self._sock.close()
        await asyncio.wait_for(self._process.wait(), 10.0)


def main() -> int:
    """Serve requests on the socket that argv[1] numbers until its other end closes."""
    from .forkserver import ForkServer, receive, wait

    sock = socket.socket(fileno=int(sys.argv[1]))
    server = ForkServer()
    while True:
        if wait(server, sock, _FOREVER) and not receive(server, sock):
            return 0


if __name__ == "__main__":
    sys.exit(main())
