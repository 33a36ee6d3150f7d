"""How short commands find a process that one of them left behind: by a socket with a telling name.

    DIRECTORY/NAME        the socket
    DIRECTORY/NAME.lock   locked while the process lives
    DIRECTORY/NAME.log    its stderr, if it has one

The name ends in a key of all that the process's forks take from it, so that it serves whoever
could have started it: the same user in the same namespaces with the same program and settings.
"""

import fcntl
import os
import sys
import zlib

from ..quick import json, sockets
from ..quick.types import TYPE_CHECKING, Callable, Iterable
from ..system.directories import TEMPLATES

if TYPE_CHECKING:
    import socket

_COMMANDS = (os.environ.get("HYPER_QEMU", "qemu-system-x86_64"), "ip", "tc")
_HELLO = b"hello"
_HELLO_BOUND = 1.0
_PACKET_BOUND = 2.0
_BACKLOG = 64


def key(layers: Iterable[str], namespaces: Iterable[str]) -> str:
    """The key of a process with the code of `layers`, paths below the package."""
    root = os.stat("/")
    settings = sorted(
        (name, value) for name, value in os.environ.items() if name.startswith("HYPER_")
    )
    inputs = [
        sys.executable,
        _program(layers),
        os.geteuid(),
        (root.st_dev, root.st_ino),
        [os.readlink(f"/proc/self/ns/{name}") for name in namespaces],
        settings,
        [_which(command) for command in _COMMANDS],
    ]
    text = json.dumps(inputs).encode()
    # Not hashlib, which takes as long to import as all of this to run; nobody is deceived by it.
    return f"{zlib.crc32(text):08x}{zlib.crc32(text[::-1]):08x}{len(text):x}"


def _program(layers: Iterable[str]) -> list[tuple[str, int, int]]:
    """What the program consists of, by size and time of its files."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = []
    for layer in layers:
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


def ask(name: str, packet: bytes, fds: list[int]) -> bool:
    """Send a packet to the process of that name; returns whether there is one that takes it."""
    try:
        with sockets.packets() as sock:
            sock.settimeout(_HELLO_BOUND)
            _at_socket(name, sock.connect)
            if sockets.peer_user(sock) != os.geteuid() or sock.recv(16) != _HELLO:
                return False
            sockets.send_fds(sock, packet, fds)
    except OSError:
        return False
    return True


class Meeting:
    """The process's end. Raises OSError; BlockingIOError where another process has the name."""

    def __init__(self, name: str) -> None:
        import socket

        os.makedirs(TEMPLATES, mode=0o700, exist_ok=True)
        self.path = os.path.join(TEMPLATES, name)
        self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise
        _remove_leftovers(name)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def open(self) -> None:
        """Let others find the process, which is ready for them. Raises OSError."""
        if os.path.lexists(self.path):
            os.unlink(self.path)
        _at_socket(os.path.basename(self.path), self.listener.bind)
        self.listener.listen(_BACKLOG)

    @property
    def stands(self) -> bool:
        """Whether nobody has removed the socket, which ends the process."""
        return os.path.lexists(self.path)

    def serve(self, use: "Callable[[socket.socket], object]") -> None:
        """Take one connection and call `use` with it, if it is of the same user."""
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(_PACKET_BOUND)
            try:
                if sockets.peer_user(connection) == os.geteuid():
                    connection.send(_HELLO)
                    use(connection)
            except (OSError, ValueError):
                return

    def end(self) -> None:
        """Remove the files."""
        self.listener.close()
        for left in (self.path, f"{self.path}.log", f"{self.path}.lock"):
            try:
                os.unlink(left)
            except FileNotFoundError:
                continue
        os.close(self._lock)


def _at_socket(name: str, use: Callable[[str], object]) -> None:
    """Call `use` with an address of the socket, past the 108 bytes that one may have."""
    directory = os.open(TEMPLATES, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(directory).st_uid != os.geteuid():
            raise PermissionError(f"{TEMPLATES} is another user's")
        use(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)


def _remove_leftovers(own: str) -> None:
    """Remove the files of such processes that were killed: nobody has their lock."""
    kind = own.partition("-")[0] + "-"
    for name in os.listdir(TEMPLATES):
        if not name.startswith(kind) or not name.endswith(".lock") or name.startswith(own):
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
