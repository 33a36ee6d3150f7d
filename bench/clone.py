"""A clone of a template by a script: what the hypervisor itself takes, without our sandbox."""

import json
import os
import selectors
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypercontainer.guest.protocol import Code
from hypercontainer.hypervisor import qemu_start, template
from hypercontainer.sandbox import VMConfig
from hypercontainer.sandbox.machines import machine_of

_BOUND = 30.0


class _Monitor:
    """Just enough of QMP, on a socket that blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        sock.settimeout(_BOUND)
        self._sock = sock
        self._lines = sock.makefile("rb")
        self._lines.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        text = json.dumps({"execute": command, "arguments": arguments}).encode()
        self._sock.sendall(text)
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def give(self, name: str, fd: int) -> None:
        text = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode()
        socket.send_fds(self._sock, [text], [fd])
        while "return" not in json.loads(self._lines.readline()):
            pass


@contextmanager
def started(config: VMConfig) -> Iterator[socket.socket]:
    """A VM that has booted, without a sandbox: our end of its control port."""
    with tempfile.TemporaryDirectory() as directory:
        machine, _ = machine_of("bare", directory, config)
        vmm = qemu_start.start(machine._replace(share=""))
        try:
            vmm.control.setblocking(True)
            ping(vmm.control, 1)
            yield vmm.control
        finally:
            vmm.kill()
            os.waitpid(vmm.pid, 0)


def clone(config: VMConfig) -> float:
    """Seconds from the start of QEMU to the guest's answer to a PING."""
    with tempfile.TemporaryDirectory() as directory:
        machine, _ = machine_of("bare-clone", directory, config)
        if machine.share:
            os.makedirs(machine.share)
        found = template.find(machine)
        if found is None:
            raise RuntimeError("there is no template")
        begin = time.perf_counter()
        vmm = qemu_start.start(machine._replace(memory_fd=found.memory_fd, incoming=True))
        try:
            monitor = _Monitor(vmm.monitor)
            capability = {"capability": "x-ignore-shared", "state": True}
            monitor("migrate-set-capabilities", capabilities=[capability])
            monitor.give("state", found.state_fd)
            monitor("migrate-incoming", uri="fd:state")
            while monitor("query-status")["status"] == "inmigrate":
                time.sleep(0.001)
            monitor("cont")
            ping(vmm.control, 1)
            return time.perf_counter() - begin
        finally:
            vmm.kill()
            os.waitpid(vmm.pid, 0)
            found.close()


def ping(control: socket.socket, seq: int) -> None:
    """A round trip to the guest. Raises RuntimeError when it does not answer."""
    body = json.dumps({"seq": seq}).encode()
    control.sendall(struct.pack(">II", Code.PING, 8 + len(body)) + body)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        received = b""
        while b'"seq":%d' % seq not in received:
            if not selector.select(_BOUND):
                raise RuntimeError("the guest does not answer")
            received += control.recv(4096)
