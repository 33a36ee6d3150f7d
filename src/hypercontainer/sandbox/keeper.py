"""A fork server for commands that end: found by a socket, started by the first, ended by idleness.

    DIRECTORY/.keeper-KEY   its socket; KEY is the hash of all that its forks take from it

It serves whoever could have started it: the same user in the same namespaces with the same
program and settings. Anything else starts its sandboxes itself.
"""

import os
import sys
import time

from ..quick import json
from ..quick.types import Any
from ..system import cgroups
from ..system.directories import TEMPLATES
from . import meeting, place
from .config import VMConfig

_MODULE = "hypercontainer.sandbox.keeper"
_NAMESPACES = ("net", "pid", "user", "uts", "ipc", "cgroup")
_LAYERS = ("sandbox", "hypervisor", "guest", "system", "quick")
_LOOK = 5.0


class Keeper:
    """A command's end."""

    def __init__(self) -> None:
        self._name = f".keeper-{meeting.key(_LAYERS, _NAMESPACES)}"

    def start_sandbox(self, request: dict[str, Any], keep: int, stdout: int, stderr: int) -> bool:
        """Have a sandbox started; returns whether somebody does.

        `request` has `id`, `state_dir`, `vm` and what `place.describe` gives;
        `keep` VMs like it are to be ready afterwards.
        """
        packet = json.dumps({**request, "keep": [[request["vm"], keep, place.IDLE]]}).encode()
        mounts = place.namespace()
        try:
            return meeting.ask(self._name, packet, [stdout, stderr, mounts])
        finally:
            os.close(mounts)

    def start(self, vm: VMConfig, keep: int) -> None:
        """Leave a keeper for the next command, with `keep` VMs like `vm`; it outlives this one.

        Where its files can't be, there is none.
        """
        import subprocess

        path = os.path.join(TEMPLATES, f"{self._name}.log")
        try:
            os.makedirs(TEMPLATES, mode=0o700, exist_ok=True)
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-m",
                _MODULE,
                self._name,
                json.dumps([[vm.to_json(), keep, place.IDLE]]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
        os.close(log)


def main() -> int:
    """Serve until nobody asked for anything for five minutes."""
    name, kept = sys.argv[1], json.loads(sys.argv[2])
    try:
        found = meeting.Meeting(name)
    except BlockingIOError:
        return 0
    # The group of the container in which this was started ends before the keeper does.
    cgroups.enter(cgroups.directories("/"), os.getpid())
    try:
        _serve(found, kept)
    finally:
        found.end()
    return 0


def _serve(found: meeting.Meeting, kept: list[Any]) -> None:
    from .forkserver import ForkServer, receive, wait

    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("0")
    place.name_process("hyper-keeper")
    server = ForkServer()
    found.open()
    for vm, count, seconds in kept:
        server.keep(vm, count, seconds)
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + place.IDLE and found.stands:
        if not wait(server, found.listener, _LOOK):
            continue
        idle_since = time.monotonic()
        found.serve(lambda connection: receive(server, connection))


if __name__ == "__main__":
    sys.exit(main())
