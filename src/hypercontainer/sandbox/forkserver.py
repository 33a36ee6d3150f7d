"""Forks sandboxes from a process that has everything imported, and keeps VMs ready for them.

A request is one packet: JSON with `id`, `state_dir` and `vm`, what `place.describe` gives, and
three descriptors: the sandbox's stdout (see `process`), its stderr, and its starter's mount
namespace. It gets a ready VM when there is one of its shape, else a process that starts one.
"""

import json
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from . import heap, place, process, ready

_MAX_SHAPES = 4
_MAX_READY = 64
# Whoever starts one VM may start another; it is not to be disturbed.
_QUIET = 0.15
_FIRST_DELAY, _LAST_DELAY = 1.0, 60.0
_MAKING_BOUND = 300.0
_SHAPE = (
    *("cpus", "memory_mib", "accel", "kernel", "initrd", "bios", "cbfs", "append"),
    *("share", "share_driver", "network", "memory_merge"),
)


class _Shape:
    """VMs of one shape: how many are wanted, and when the next may be made."""

    def __init__(self, vm: dict[str, Any], count: int) -> None:
        self.vm = vm
        self.until = math.inf
        self.count = count
        self.delay = 0.0
        self.not_before = 0.0


class _Child:
    """A process that makes a VM ready or has done so."""

    def __init__(self, pid: int, sock: socket.socket, shape: _Shape) -> None:
        self.pid = pid
        self.sock = sock
        self.shape = shape
        self.is_ready = False
        self.deadline = time.monotonic() + _MAKING_BOUND


def _key(vm: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(vm.get(name) for name in _SHAPE)


class ForkServer:
    """Serves requests of one socket; `serve` is to be called with each packet."""

    def __init__(self) -> None:
        """Import everything, so that what is forked has it."""
        from ..hypervisor import qemu, qemu_driver
        from . import sandbox, server, vm, warmup

        del qemu, qemu_driver, sandbox, server, vm, warmup
        self._shapes: dict[tuple[Any, ...], _Shape] = {}
        self._children: list[_Child] = []
        self._quiet_until = 0.0
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        heap.share()

    def keep(self, vm: dict[str, Any], count: int, seconds: float | None = None) -> None:
        """Keep `count` VMs of the shape of `vm` ready, for `seconds` (None: from now on).

        Of shapes with a time the last few stay; what is kept without one is not changed by one.
        """
        known = self._shapes.get(_key(vm))
        lasting = known is not None and known.until == math.inf
        if vm.get("template") == "off" or (seconds is not None and lasting):
            return
        count = min(count, _MAX_READY)
        self._shapes.pop(_key(vm), None)
        shape = known or _Shape(vm, count)
        shape.count = count
        shape.until = math.inf if seconds is None else time.monotonic() + seconds
        self._shapes[_key(vm)] = shape
        passing = [key for key, shape in self._shapes.items() if shape.until < math.inf]
        for key in passing[:-_MAX_SHAPES]:
            del self._shapes[key]

    def start(self, request: dict[str, Any], packet: bytes, fds: list[int]) -> None:
        """Give the request to a ready VM or to a new process. Raises OSError when neither works."""
        self._quiet_until = time.monotonic() + _QUIET
        for child in self._children:
            if not (child.is_ready and _fits(child, request)):
                continue
            if _hand_over(child, packet, fds):
                self._children.remove(child)
                child.sock.close()
                return
        if os.fork() == 0:
            place.only_descriptors(fds)
            _in_child(lambda: _become_sandbox(request, *fds))

    def descriptors(self) -> list[int]:
        """What `look` wants to be called for when it is readable."""
        return [child.sock.fileno() for child in self._children]

    def look(self) -> float:
        """Note what children say, start those that are missing; the seconds until the next look."""
        now = time.monotonic()
        for child in list(self._children):
            self._listen(child, now)
        self._shapes = {key: s for key, s in self._shapes.items() if s.until > now}
        self._shrink()
        waits = [_LAST_DELAY]
        for shape in self._shapes.values():
            missing = shape.count - sum(c.shape is shape for c in self._children)
            wait = max(shape.not_before, self._quiet_until) - now
            if missing > 0 and wait <= 0 and not any(not c.is_ready for c in self._children):
                self._make(shape)
            elif missing > 0:
                waits.append(max(wait, 0.05))
        return min(waits)

    def _listen(self, child: _Child, now: float) -> None:
        try:
            said = child.sock.recv(16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            if child.is_ready or now < child.deadline:
                return
            said = b""
        except OSError:
            said = b""
        if said == ready.READY:
            child.is_ready = True
            child.shape.delay = 0.0
            return
        self._children.remove(child)
        child.sock.close()
        if not child.is_ready:
            _kill(child.pid)
            shape = child.shape
            shape.delay = min(max(2 * shape.delay, _FIRST_DELAY), _LAST_DELAY)
            shape.not_before = now + shape.delay

    def _shrink(self) -> None:
        """Let go what is beyond what is wanted; its process ends with its socket."""
        for child in list(self._children):
            others = [c for c in self._children if c.shape is child.shape]
            known = child.shape in self._shapes.values()
            if not known or len(others) > child.shape.count:
                self._children.remove(child)
                child.sock.close()

    def _make(self, shape: _Shape) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            fd = theirs.detach()
            place.only_descriptors([fd])
            _in_child(lambda: ready.run(shape.vm, socket.socket(fileno=fd)))
        theirs.close()
        self._children.append(_Child(pid, ours, shape))


def _fits(child: _Child, request: dict[str, Any]) -> bool:
    vm = request["vm"]
    fresh = vm.get("template") != "off" and not request.get("resume")
    return fresh and _key(child.shape.vm) == _key(vm)


def _hand_over(child: _Child, packet: bytes, fds: list[int]) -> bool:
    try:
        socket.send_fds(child.sock, [packet], fds)
    except OSError:
        return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _in_child(work: Callable[[], int]) -> None:
    """Run `work` as all of a forked process."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _become_sandbox(request: dict[str, Any], stdout: int, stderr: int, mounts: int) -> int:
    place.become_standard(stdout, stderr)
    place.enter_namespace(mounts)
    os.close(mounts)
    place.take(request["state_dir"], request)
    return process.run(request["state_dir"], request)


def receive(server: ForkServer, sock: socket.socket) -> bool:
    """Take one packet of `sock` and do what it asks; returns whether there may be more."""
    packet, fds, _, _ = socket.recv_fds(sock, ready.MAX_PACKET, ready.DESCRIPTORS)
    if not packet:
        return False
    try:
        request = json.loads(packet)
        for vm, count, seconds in request.get("keep", []):
            server.keep(vm, count, seconds)
        if "id" in request and len(fds) == ready.DESCRIPTORS:
            server.start(request, packet, fds)
    finally:
        for fd in fds:
            os.close(fd)
    return True


def wait(server: ForkServer, sock: socket.socket, timeout: float) -> bool:
    """Look after the children until `sock` is readable or `timeout` seconds are over."""
    deadline = time.monotonic() + timeout
    while True:
        pause = server.look()
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        for fd in server.descriptors():
            poller.register(fd, select.POLLIN)
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if any(fd == sock.fileno() for fd, _ in poller.poll(1000 * min(pause, left))):
            return True
