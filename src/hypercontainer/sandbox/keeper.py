"""A fork server for commands that end: found by a socket, started by the first, ended by idleness.

    DIRECTORY/.keeper-KEY   its socket; KEY is the hash of all that its forks take from it

It serves whoever could have started it: the same user in the same namespaces with the same
program and settings. Anything else starts its sandboxes itself.
"""

import fcntl
import json
import os
import socket
import struct
import sys
import time
import zlib
from typing import Any

from ..hypervisor.machine import TEMPLATES
from ..system import cgroups
from . import place
from .config import VMConfig

_MODULE = "hypercontainer.sandbox.keeper"
_NAMESPACES = ("net", "pid", "user", "uts", "ipc", "cgroup")
_COMMANDS = (os.environ.get("HYPER_QEMU", "qemu-system-x86_64"), "ip", "tc")
_HELLO = b"hello"
_HELLO_BOUND = 1.0
_PACKET_BOUND = 2.0
_LOOK = 5.0
_BACKLOG = 64
_NICE = 10


def _program() -> list[tuple[str, int, int]]:
    """What the program consists of, by size and time of its files."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = []
    for layer in ("sandbox", "hypervisor", "guest", "system"):
        with os.scandir(os.path.join(package, layer)) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    found.append((entry.path, status.st_size, status.st_mtime_ns))
    return sorted(found)


def _which(command: str) -> str:
    """As `shutil.which`, whose module takes longer to import than this to run."""
    paths = (os.path.join(d, command) for d in os.environ.get("PATH", os.defpath).split(":"))
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _key() -> str:
    root = os.stat("/")
    settings = sorted(
        (name, value) for name, value in os.environ.items() if name.startswith("HYPER_")
    )
    inputs = [
        sys.executable,
        _program(),
        os.geteuid(),
        (root.st_dev, root.st_ino),
        [os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES],
        settings,
        [_which(command) for command in _COMMANDS],
    ]
    text = json.dumps(inputs).encode()
    # Not hashlib, which takes as long to import as all of this to run; nobody is deceived by it.
    return f"{zlib.crc32(text):08x}{zlib.crc32(text[::-1]):08x}{len(text):x}"


class Keeper:
    """A command's end."""

    def __init__(self) -> None:
        self._name = f".keeper-{_key()}"

    def start_sandbox(self, request: dict[str, Any], keep: int, stdout: int, stderr: int) -> bool:
        """Have a sandbox started; returns whether somebody does.

        `request` has `id`, `state_dir`, `vm` and what `place.describe` gives;
        `keep` VMs like it are to be ready afterwards.
        """
        packet = json.dumps({**request, "keep": [[request["vm"], keep, place.IDLE]]}).encode()
        mounts = place.namespace()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(_HELLO_BOUND)
                _at_socket(self._name, sock.connect)
                if not _is_own(sock) or sock.recv(16) != _HELLO:
                    return False
                socket.send_fds(sock, [packet], [stdout, stderr, mounts])
        except OSError:
            return False
        finally:
            os.close(mounts)
        return True

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


def _at_socket(name: str, use: Any) -> None:
    """Call `use` with an address of the socket, past the 108 bytes that one may have."""
    directory = os.open(TEMPLATES, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(directory).st_uid != os.geteuid():
            raise PermissionError(f"{TEMPLATES} is another user's")
        use(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)


def _is_own(sock: socket.socket) -> bool:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", credentials)[1] == os.geteuid())


def main() -> int:
    """Serve until nobody asked for anything for five minutes."""
    name, kept = sys.argv[1], json.loads(sys.argv[2])
    os.makedirs(TEMPLATES, mode=0o700, exist_ok=True)
    path = os.path.join(TEMPLATES, name)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    _remove_leftovers(name)
    # The group of the container in which this was started ends before the keeper does.
    cgroups.enter(cgroups.directories("/"), os.getpid())
    try:
        _serve(path, name, kept)
    finally:
        for left in (path, f"{path}.log", f"{path}.lock"):
            try:
                os.unlink(left)
            except FileNotFoundError:
                continue
    return 0


def _remove_leftovers(own: str) -> None:
    """Remove the files of keepers that were killed: nobody has their lock."""
    for name in os.listdir(TEMPLATES):
        if not name.startswith(".keeper-") or not name.endswith(".lock") or name.startswith(own):
            continue
        path = os.path.join(TEMPLATES, name)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in (path.removesuffix(".lock"), path.removesuffix("lock") + "log", path):
                if os.path.lexists(left):
                    os.unlink(left)
        except OSError:
            continue
        finally:
            os.close(lock)


def _serve(path: str, name: str, kept: list[Any]) -> None:
    from .forkserver import ForkServer, receive, wait

    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("0")
    place.name_process("hyper-keeper")
    server = ForkServer()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.lexists(path):
        os.unlink(path)
    _at_socket(name, listener.bind)
    listener.listen(_BACKLOG)
    for vm, count, seconds in kept:
        server.keep(vm, count, seconds)
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + place.IDLE and os.path.lexists(path):
        if not wait(server, listener, _LOOK):
            continue
        idle_since = time.monotonic()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_PACKET_BOUND)
            try:
                if _is_own(connection):
                    connection.send(_HELLO)
                    receive(server, connection)
            except (OSError, ValueError):
                continue


if __name__ == "__main__":
    sys.exit(main())
