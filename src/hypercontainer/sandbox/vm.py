"""One running VM: the VMM, its monitor, the guest's channels, and what ends it."""

import asyncio
import base64
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..errors import HyperError, VMError
from ..guest.connection import ControlConnection
from ..guest.protocol import Code
from ..guest.streams import StreamChannel
from ..hypervisor import driver
from ..hypervisor.machine import Machine, Vmm, random_mac
from ..hypervisor.template import Template
from ..system import processes
from ..system.patience import patience
from .console import ConsoleLog

_CLONE_BOUND = 5.0
_KILL_BOUND = 10.0
_RENEW_BOUND = 2.0
_MAX_ERRORS = 8192
# What QEMU's user-mode network expects of its guest.
_USER_NIC = {"device": "eth0", "addresses": ["10.0.2.15/24"], "up": True}
_USER_ROUTE = {"routes": [{"dest": "default", "gateway": "10.0.2.2", "device": "eth0"}]}


class VirtualMachine:
    """Owns the VMM process and everything that talks to it."""

    def __init__(
        self, machine: Machine, vmm: Vmm, on_event: Callable[[dict[str, Any]], None]
    ) -> None:
        self.machine = machine
        self.vmm = vmm
        self.monitor = driver.load(machine.accel).monitor(machine, vmm)
        self.features = self.monitor.features
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.guest: dict[str, Any] = {}
        # The guest's names of containers, where they are others than ours: it is a copy of one
        # that had them.
        self.guest_names: dict[str, str] = {}
        self._on_event = on_event
        self._broken = ""
        self._errors = b""

    async def open(self, console_path: str) -> None:
        """Take over the VMM's channels and watch its process."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.vmm.errors, self._read_errors)
        self.console = await ConsoleLog.open(self.vmm.console, console_path)
        self.control = await ControlConnection.open(self.vmm.control, self._event, self.kill_for)
        self.streams = await StreamChannel.open(self.vmm.streams, self.kill_for)
        self._pidfd = os.pidfd_open(self.vmm.pid)
        loop.add_reader(self._pidfd, self._reap)
        if (server := self.vmm.server) is not None:
            pidfd = os.pidfd_open(server.pid)
            loop.add_reader(pidfd, self._reap_server, server.pid, pidfd)

    def _event(self, payload: dict[str, Any]) -> None:
        own = {theirs: ours for ours, theirs in self.guest_names.items()}
        name = payload.get("container")
        if isinstance(name, str) and name in own:
            payload = {**payload, "container": own[name]}
        self._on_event(payload)

    def _read_errors(self) -> None:
        try:
            data = os.read(self.vmm.errors, 4096)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self.vmm.errors)
            return
        if len(self._errors) < _MAX_ERRORS:
            self._errors += data
            sys.stderr.write(data.decode(errors="replace"))

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self.vmm.pid, 0)
        self._read_errors()
        self.control.fail("the virtual machine is gone")
        if not self.ended.done():
            self.ended.set_result(self._broken or self._death(status))

    def _reap_server(self, pid: int, pidfd: int) -> None:
        """It ends with QEMU; before, whatever the guest wants of the share would hang."""
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        if processes.alive(self.vmm.pid, self.vmm.started):
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            self.kill_for(f"virtiofsd, which serves the share, {how}")

    def _death(self, status: int) -> str:
        said = self._errors.decode(errors="replace").strip().splitlines()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return f"{self.features.name} was killed by signal {-code}"
        if code == 0:
            return "the guest ended the virtual machine"
        why = said[-1] if said else "it gave no reason"
        return f"{self.features.name} exited with code {code}: {why}"

    def kill_for(self, reason: str) -> None:
        """End the VM at once, with that as the reason (such as a broken protocol)."""
        self._broken = self._broken or reason
        self.control.fail(reason)
        self.vmm.kill()

    async def greet(self, timeout: float | None) -> dict[str, Any]:
        """Wait until the guest is up; returns its greeting. Raises as `boot`."""
        async with self.coming_up(timeout) as bound:
            await self._meet(bound)
        return self.guest

    async def clone(self, template: Template, pod: dict[str, Any]) -> None:
        """Continue a template's guest and set it up as another. Raises as `boot`."""
        async with self.coming_up(_CLONE_BOUND * patience()) as bound:
            await self.monitor.connect(bound)
            await self.monitor.load_state(template.state_fd, bound)
            self.control.assume_ready(template.guest)
            self.guest = template.guest
            await self._set_up(pod, bound)

    async def renew(self, pod: dict[str, Any]) -> None:
        """Let a paused guest go on as another: with the time, randomness and names that `pod`
        and this moment give. Raises as `boot`."""
        async with self.coming_up(_RENEW_BOUND * patience()) as bound:
            await self.go_on(pod, bound)

    async def go_on(self, pod: dict[str, Any], bound: float) -> None:
        """As `renew`, in at most `bound` seconds. Raises VMError."""
        await asyncio.gather(
            self.monitor.resume(),
            self.control.request(Code.STARTPOD, identity(pod), timeout=bound),
        )

    async def boot(self, timeout: float | None, pod: dict[str, Any]) -> None:
        """Wait for the guest and set it up.

        Raises VMError at once when the VMM dies, and after `timeout` seconds
        (None: scaled to the engine and the load) when the guest does not come
        up; the error ends with the console's last lines.
        """
        async with self.coming_up(timeout) as bound:
            await self._meet(bound)
            await self._set_up(pod, bound)

    async def _meet(self, bound: float) -> None:
        await self.monitor.connect(bound)
        self.guest = await asyncio.shield(self.control.ready)
        self.streams.bound(self.guest)
        self.monitor.guest_is_up()

    @asynccontextmanager
    async def coming_up(self, timeout: float | None) -> AsyncIterator[float]:
        """Bound the body, and turn its failure into what the console and QEMU said."""
        bound = timeout or self.features.boot_seconds * patience()
        try:
            async with asyncio.timeout(bound):
                yield bound
        except TimeoutError:
            raise self._not_up(f"no answer in {bound:.0f} s") from None
        except HyperError as error:
            await asyncio.wait([self.ended], timeout=1.0)
            reason = self.ended.result() if self.ended.done() else error.message
            raise self._not_up(reason) from error

    async def _set_up(self, pod: dict[str, Any], bound: float) -> None:
        if (server := self.vmm.server) is not None:
            # Not before: a VM with it can't be saved as a template.
            with server.socket:
                await self.monitor.plug_share(server.socket.fileno(), driver.SHARE_TAG)
        await self.control.request(Code.STARTPOD, self._setup(pod), timeout=bound)
        if self.machine.network == "user":
            # A clone's card has the address of its template's.
            nic = {**_USER_NIC, "newmac": random_mac()}
            await self.control.request(Code.SETUPINTERFACE, nic, timeout=bound)
            await self.control.request(Code.SETUPROUTE, _USER_ROUTE, timeout=bound)

    def _not_up(self, reason: str) -> VMError:
        tail = self.console.tail()
        last = tail.splitlines()[-1] if tail else ""
        hint = f"; the console's last line: {last}" if last else "; the console is empty"
        return VMError(
            f"the virtual machine did not start: {reason}{hint}",
            detail=f"console:\n{tail}\nVMM: {self._errors.decode(errors='replace')}",
        )

    def _setup(self, pod: dict[str, Any]) -> dict[str, Any]:
        payload = identity(pod)
        if self.machine.share:
            kind = self.machine.share_driver
            options = self.features.shares[kind]
            payload["share"] = {"tag": driver.SHARE_TAG, "fstype": kind, "options": options}
        return payload

    async def request(self, code: Code, payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request to the guest, bounded by what the engine needs under this load."""
        if payload and self.guest_names:
            payload = self._as_the_guest_says(payload)
        return await self.control.request(code, payload, timeout=self.request_bound)

    @property
    def request_bound(self) -> float:
        """Seconds that a request may take under this load."""
        return self.features.request_seconds * patience()

    def _as_the_guest_says(self, payload: dict[str, Any]) -> dict[str, Any]:
        names = self.guest_names
        if (name := payload.get("container")) in names:
            payload = {**payload, "container": names[name]}
        if join := payload.get("join"):
            payload = {**payload, "join": {k: names.get(cid, cid) for k, cid in join.items()}}
        return payload

    async def set_time(self) -> None:
        """Tell the guest the time, which stood still while the VM did; new randomness with it."""
        about = identity({})
        seconds, nanoseconds = about["time"]
        await self.request(
            Code.SETTIME, {"sec": seconds, "nsec": nanoseconds, "entropy": about["entropy"]}
        )

    async def shutdown(self, timeout: float) -> None:
        """Orderly power off in at most `timeout` seconds, else by force."""
        try:
            async with asyncio.timeout(timeout):
                await self.control.request(Code.DESTROYPOD, timeout=timeout)
                await asyncio.shield(self.ended)
        except (HyperError, TimeoutError):
            await self.kill()

    async def kill(self) -> None:
        """End the VMM at once."""
        self.vmm.kill()
        await asyncio.wait([self.ended], timeout=_KILL_BOUND * patience())


def identity(pod: dict[str, Any]) -> dict[str, Any]:
    """What no two guests may share, for STARTPOD."""
    now = time.time_ns()
    return {
        "time": [now // 10**9, now % 10**9],
        "entropy": base64.b64encode(os.urandom(64)).decode(),
        "machine_id": os.urandom(16).hex(),
        **pod,
    }
