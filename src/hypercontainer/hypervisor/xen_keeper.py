"""The process that stands for a domain of Xen, as QEMU's does for its VM.

It starts the domain, carries the bytes between its consoles and the sandbox, and ends with it;
and when it, or the sandbox, is ended, so is the domain. Forked from the sandbox before that has
anything of its own, so that it costs no start of Python.
"""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from typing import NoReturn

from ..errors import VMError
from ..system import memfd, processes, syscalls
from . import xen_devices, xen_domain
from .machine import Ends, Machine
from .xen_devices import Device
from .xen_ring import Channel, Events, Ring, granted_page
from .xenstore import XenStore

_MADE = re.compile(r"\(domid (\d+)\) to die")
_ENDED = re.compile(r"has shut down, reason code (\d+)")
_CRASHED = "3"
_MAKE_BOUND = 240.0
_CONSOLE_BOUND = 20.0
_END_BOUND = 30.0
_POLL = 0.02
_CHUNK = 4096
_MAX_WORDS = 16384


class _EndedByForceError(Exception):
    """The sandbox wants the domain's end, or is gone."""


def become(machine: Machine, ends: Ends, errors: int, parent: int) -> NoReturn:
    """In the forked child: keep the domain until it is gone, and exit."""
    code = 1
    try:
        _settle_in(ends, errors, parent)
        code = _Keeper(machine, ends).run()
    except VMError as error:
        os.write(2, f"{error.message}\n".encode())
    except BaseException as error:
        os.write(2, f"the process that keeps the domain: {error!r}\n".encode())
    finally:
        sys.stdout = sys.stderr = None
        os._exit(code)


def _settle_in(ends: Ends, errors: int, parent: int) -> None:
    processes.stand_alone(errors)
    kept = {0, 1, 2, *(end.fileno() for end in ends)}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue
    with open("/proc/self/comm", "w") as file:
        file.write("hyper-xen")
    for end in ends:
        end.setblocking(False)
    signal.signal(signal.SIGTERM, _end_by_force)
    syscalls.die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        raise VMError("the sandbox is gone")


def _end_by_force(signum: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _EndedByForceError


class _Keeper:
    def __init__(self, machine: Machine, ends: Ends) -> None:
        self._machine = machine
        self._ends = ends
        self._store = XenStore()
        pid = os.getpid()
        self._name = xen_domain.name_of(machine, pid, processes.start_time(pid) or 0)
        self._xl: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._domain: int | None = None

    def run(self) -> int:
        """Returns the exit code: 0 when the guest ended it. Raises VMError, OSError."""
        try:
            xen_domain.sweep(self._store)
            domain = self._make()
            channels = self._open_channels(domain)
            console = self._console(domain)
            xen_domain.xl("unpause", str(domain))
            self._ends.monitor.send(str(domain).encode())
            self._carry(channels, console)
            return self._last_words()
        except _EndedByForceError:
            os.write(2, b"the domain was destroyed\n")
            return 1
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._clean_up()

    def _make(self) -> int:
        """Have xl make the domain, which stands still; it stays to see to the domain's end."""
        config = memfd.new("xl.cfg", 0)
        os.write(config, xen_domain.configuration(self._machine, self._name).encode())
        said, theirs = os.pipe()
        os.set_blocking(said, False)
        self._errors = said
        argv = [xen_domain.binary(), "create", "-F", "-p", f"/proc/self/fd/{config}"]
        self._xl = subprocess.Popen(
            argv, stdin=0, stdout=1, stderr=theirs, pass_fds=(config,), start_new_session=True
        )
        os.close(theirs)
        os.close(config)
        deadline = time.monotonic() + _MAKE_BOUND
        while not (match := _MADE.search(self._listen(_POLL))):
            if self._xl.poll() is not None:
                why = xen_domain.what_it_said(self._listen(0))
                raise VMError(f"Xen did not make the domain: {why}")
            if time.monotonic() > deadline:
                raise VMError(f"Xen did not make the domain in {_MAKE_BOUND:.0f} s")
        self._domain = int(match[1])
        return self._domain

    def _listen(self, timeout: float) -> str:
        """What xl has said until now."""
        if select.select([self._errors], [], [], timeout)[0]:
            data = os.read(self._errors, _CHUNK)
            self._said = (self._said + data)[-_MAX_WORDS:]
            if not data:
                time.sleep(timeout)
        return self._said.decode(errors="replace")

    def _open_channels(self, domain: int) -> dict[Device, socket.socket]:
        """Two consoles beside the first, for whom `hyper.ports` of the command line is."""
        channels = {
            Device(domain, "console", 1): self._ends.control,
            Device(domain, "console", 2): self._ends.streams,
        }
        for device in channels:
            # The type says to QEMU that it is not to serve it.
            guest = {"type": "xenconsoled", "protocol": "vt100", "output": "none", "tty": ""}
            xen_devices.plug(self._store, device, {"protocol": "vt100"}, guest)
        return channels

    def _console(self, domain: int) -> int:
        """The terminal at which Xen's console daemon has the guest's first console."""
        path = f"/local/domain/{domain}/console/tty"
        deadline = time.monotonic() + _CONSOLE_BOUND
        while not (terminal := self._store.read(path)):
            if time.monotonic() > deadline:
                raise VMError("Xen's console daemon (xenconsoled) does not serve the domain")
            time.sleep(_POLL)
        return os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _carry(self, waiting: dict[Device, socket.socket], console: int) -> None:
        """Carry bytes until xl has seen the domain's end. Raises OSError for a broken ring."""
        assert self._xl is not None
        xl = os.pidfd_open(self._xl.pid)
        channels: list[tuple[Events, Channel]] = []
        while True:
            poller = select.poll()
            for fd in (xl, self._errors, console, self._ends.monitor.fileno()):
                if fd >= 0:
                    poller.register(fd, select.POLLIN)
            for events, channel in channels:
                poller.register(events.fd, select.POLLIN)
                poller.register(channel.sock, channel.wants)
            ready = {fd for fd, _ in poller.poll(_POLL * 1000 if waiting else None)}
            if xl in ready:
                os.close(xl)
                return
            if self._ends.monitor.fileno() in ready and not self._monitored():
                raise _EndedByForceError
            if self._errors in ready and not self._heard():
                os.close(self._errors)
                self._errors = -1
            if console in ready and not self._show(console):
                os.close(console)
                console = -1
            for device in [d for d in waiting if self._is_initialised(d)]:
                channels.append(self._connect(device, waiting.pop(device)))
            for events, channel in channels:
                if events.fd in ready:
                    events.acknowledge()
                try:
                    channel.carry()
                except EOFError:
                    raise _EndedByForceError from None

    def _monitored(self) -> bool:
        """Whether the sandbox still holds its end: it sends nothing."""
        try:
            return bool(self._ends.monitor.recv(_CHUNK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _heard(self) -> bool:
        before = len(self._said)
        self._listen(0)
        return len(self._said) != before or len(self._said) == _MAX_WORDS

    def _show(self, console: int) -> bool:
        """Pass the guest's console on; who does not take it misses some."""
        try:
            data = os.read(console, _CHUNK)
            self._ends.console.send(data)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data)

    def _is_initialised(self, device: Device) -> bool:
        return xen_devices.state(self._store, device.guests) == xen_devices.INITIALISED

    def _connect(self, device: Device, sock: socket.socket) -> tuple[Events, Channel]:
        grant, port = (self._store.read(f"{device.guests}/{name}") for name in ("ring-ref", "port"))
        if not (grant.isdigit() and port.isdigit()):
            raise VMError(f"the guest's console {device.number} is broken")
        events = Events(device.domain, int(port))
        ring = Ring(granted_page(device.domain, int(grant)), events.notify)
        self._store.write(f"{device.hosts}/state", str(xen_devices.CONNECTED))
        return events, Channel(ring, sock)

    def _last_words(self) -> int:
        if self._errors >= 0:
            self._listen(0)
        match = _ENDED.search(self._said.decode(errors="replace"))
        if match and match[1] == _CRASHED:
            os.write(2, b"the guest's kernel crashed\n")
            return 1
        return 0

    def _clean_up(self) -> None:
        """Whatever has happened, nothing of the domain stays."""
        if self._domain is None and self._xl is not None:
            self._end_xl()
            self._domain = xen_domain.find(self._store, self._name)
        if self._domain is None:
            return
        if self._store.read(f"/local/domain/{self._domain}/name") == self._name:
            xen_domain.destroy(self._store, self._domain)
        xen_devices.forget_domain(self._store, self._domain)
        xen_domain.forget_log(self._name)
        self._end_xl()

    def _end_xl(self) -> None:
        assert self._xl is not None
        try:
            self._xl.wait(_END_BOUND if self._domain is not None else 0.1)
        except subprocess.TimeoutExpired:
            self._xl.kill()
            self._xl.wait(_END_BOUND)
