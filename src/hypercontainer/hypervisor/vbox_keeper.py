"""The process that stands for a VM of VirtualBox, as QEMU's does for its own.

It makes and starts the VM, carries the bytes between its serial ports and the sandbox, and ends
with it; when it is told to end, or the sandbox does, so does the VM, of which nothing stays.
"""

import os
import select
import signal
import socket
import sys
import tempfile
import time
from typing import NoReturn

from ..errors import VMError
from ..system import processes, syscalls
from . import vbox_commands as commands
from .machine import Ends, Machine

_CONNECT_BOUND = 60.0
_CHUNK = 4096
_STATE_BOUND = 30.0
_POLL = 0.2
_OFF = ("", "poweroff", "aborted")


class _ToldToEnd(Exception):
    """SIGTERM came."""


def become(machine: Machine, cd: str, ends: Ends, errors: int, parent: int) -> NoReturn:
    """In the forked child: keep the VM until it is gone, and exit."""
    code = 1
    try:
        processes.stand_alone(errors)
        signal.signal(signal.SIGTERM, _told)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        syscalls.die_with_parent(signal.SIGTERM)
        if os.getppid() == parent:
            # Of the sandbox's directory, which goes also when all of us are killed.
            with tempfile.TemporaryDirectory(prefix="vm-", dir=machine.jail) as directory:
                code = _keep(machine, cd, ends, directory)
    except _ToldToEnd:
        pass
    except (VMError, OSError) as error:
        os.write(2, f"{error}\n".encode())
    except BaseException as error:
        os.write(2, f"the process that keeps the VM: {error!r}\n".encode())
    finally:
        sys.stdout = sys.stderr = None
        os._exit(code)


def _told(signum: int, frame: object) -> None:
    raise _ToldToEnd


def _keep(machine: Machine, cd: str, ends: Ends, directory: str) -> int:
    """Returns 0 when the guest ended the VM."""
    pipes = commands.Pipes(*(os.path.join(directory, name) for name in commands.Pipes._fields))
    listeners = [_listen(path) for path in pipes]
    try:
        clear(machine.name)
        for command in commands.create(machine, directory, cd, pipes):
            commands.run(command)
        commands.run(commands.start(machine.name))
        ports = [_accept(listener) for listener in listeners]
        _carry(list(zip((ends.control, ends.streams, ends.console), ports, strict=True)))
        return 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        clear(machine.name)


def clear(name: str) -> None:
    """Leave no VM of this name: one that runs is powered off, one that is known forgotten.

    One may be there whose keeper was killed. Raises VMError.
    """
    found = state(name)
    if found is None:
        return
    if found not in _OFF:
        commands.run(commands.control(name, "poweroff"))
        deadline = time.monotonic() + _STATE_BOUND
        while state(name) not in _OFF and time.monotonic() < deadline:
            time.sleep(_POLL)
    commands.run(commands.remove(name))


def state(name: str) -> str | None:
    """The state of a VM as VirtualBox names it; None when it knows none of this name."""
    try:
        return commands.state_of(commands.run(commands.information(name)))
    except VMError:
        return None


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    listener.settimeout(_CONNECT_BOUND)
    return listener


def _accept(listener: socket.socket) -> socket.socket:
    with listener:
        try:
            return listener.accept()[0]
        except TimeoutError:
            raise VMError("VirtualBox did not connect the VM's serial ports") from None


def _carry(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    """Carry bytes both ways, until the VM lets go of its first port."""
    peers: dict[socket.socket, socket.socket] = {}
    for ours, port in pairs:
        for end in (ours, port):
            end.settimeout(None)
        peers |= {ours: port, port: ours}
    first = pairs[0][1]
    while True:
        for end in select.select(list(peers), [], [])[0]:
            try:
                data = end.recv(_CHUNK)
                if data:
                    peers[end].sendall(data)
            except ConnectionError:
                data = b""
            if not data and end is first:
                return
            if not data:
                del peers[end]
