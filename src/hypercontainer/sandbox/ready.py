"""A sandbox whose VM runs before anybody wants it: cloned, warmed up, and paused.

It waits on a socket for one packet: a request as for `process.run` with the
descriptors of its stdout, its stderr and its starter's mount namespace. Then it
goes on as that sandbox. It ends when the socket's other end does.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import HyperError
from ..hypervisor import template
from ..hypervisor.machine import Machine, Vmm
from ..system import syscalls
from ..system.patience import slowness
from ..system.syscalls import MS_REC, MS_SLAVE
from . import place
from .config import VMConfig
from .machines import machine_of
from .share import Share
from .state import CONSOLE_LOG

MAX_PACKET = 1 << 16
DESCRIPTORS = 3
READY = b"ready"
NO_TEMPLATE = 3
_NICE = 15
# The guest's kernel takes control groups and namespaces down after whoever asked for it was
# answered, and would go on with that in the time of the VM's user.
_SETTLING = 0.15
_SIZE = "size=2m,mode=700"


def run(vm: dict[str, Any], sock: socket.socket) -> int:
    """Make a VM ready, say so on `sock`, and become the sandbox that it asks for."""
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    place.name_process("hyper-ready")
    config = VMConfig.from_json(vm)
    host = place.namespace()
    own, directory = _own_mounts()
    machine, why = machine_of("ready", directory, config)
    found = template.find(machine)
    if found is None:
        return NO_TEMPLATE
    share = Share(machine.share) if machine.share else None
    vmm = template.start_vm(machine, found)
    if share is not None:
        own = place.namespace()
        share.leave(own, host)
    place.enter_namespace(host)

    async def wait() -> int:
        return await _Ready(config, machine, why, vmm, share, own).run(sock, found)

    return asyncio.run(wait())


def _own_mounts() -> tuple[int, str]:
    """Enter a mount namespace with a directory that vanishes with this process; its descriptor,
    and the directory. Raises OSError."""
    directory = os.path.join(template.DIRECTORY, ".ready")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", MS_REC | MS_SLAVE)
    syscalls.mount("hyper", directory, "tmpfs", 0, _SIZE)
    return place.namespace(), directory


class _Ready:
    def __init__(
        self,
        config: VMConfig,
        machine: Machine,
        why: str,
        vmm: Vmm,
        share: Share | None,
        own: int,
    ) -> None:
        from .vm import VirtualMachine

        self._config = config
        self._machine = machine
        self._why = why
        self._share = share
        self._own = own
        self._on_event: Callable[[dict[str, Any]], None] = lambda event: None
        self._vm = VirtualMachine(machine, vmm, lambda event: self._on_event(event))

    async def run(self, sock: socket.socket, found: template.Template) -> int:
        await self._vm.open("")
        try:
            await self._vm.clone(found, {"hostname": "ready"})
            found.close()
            await self._warm_up()
            await asyncio.sleep(_SETTLING * slowness())
            await self._vm.monitor.pause()
            sock.send(READY)
            request, fds = await self._wanted(sock)
        except (HyperError, OSError) as error:
            sys.stderr.write(f"ready VM: {error}\n")
            request, fds = None, []
        if request is None:
            await self._vm.kill()
            return 1
        return await self._become(request, fds, found.key)

    async def _warm_up(self) -> None:
        from .warmup import WarmUp

        warm_up = WarmUp()
        self._on_event = warm_up.on_event
        await warm_up.run(self._vm, self._share)

    async def _wanted(self, sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
        """The request, None when nobody will ask any more or the VM is gone."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(sock, _settle, readable)
        waited: list[asyncio.Future[Any]] = [readable, self._vm.ended]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        loop.remove_reader(sock)
        if not readable.done():
            # From now on nobody can send; what came before is answered by a VM that boots.
            sock.shutdown(socket.SHUT_RD)
            sock.setblocking(False)
        data, fds, _, _ = socket.recv_fds(sock, MAX_PACKET, DESCRIPTORS)
        sock.close()
        return (json.loads(data), fds) if data and len(fds) == DESCRIPTORS else (None, [])

    async def _become(self, request: dict[str, Any], fds: list[int], key: str) -> int:
        """Go on as the sandbox of a request; a VM that does not is replaced by one that boots."""
        from .process import about, serve
        from .sandbox import Sandbox

        stdout, stderr, mounts = fds
        place.become_standard(stdout, stderr)
        place.enter_namespace(mounts)
        if self._share is None:
            os.close(mounts)
        else:
            self._share.leave(self._own, mounts)
        state_dir = request["state_dir"]
        vm, vmm = self._vm, self._vm.vmm
        # The kernel may take 10 ms to move a process to another group, but starts wait for it.
        mover = ThreadPoolExecutor(1)
        moving = asyncio.wrap_future(mover.submit(place.take, state_dir, request, vmm))
        mover.shutdown(wait=False)
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        for leader in place.leaders(vmm):
            os.setpriority(os.PRIO_PGRP, leader, 0)
        config = VMConfig.from_json(request["vm"])
        sandbox = Sandbox(request["id"], state_dir, config, self._share)
        self._on_event = sandbox.on_event
        sandbox.moved = moving
        console = os.path.join(state_dir, CONSOLE_LOG)

        async def renew() -> None:
            current, _ = machine_of(request["id"], state_dir, config)
            if template.key(current) != key:
                raise HyperError("the template has changed")
            vm.console.move(console)
            await vm.renew({"hostname": request["id"]})

        async def go_on() -> None:
            try:
                await renewing
            except (HyperError, OSError) as error:
                sys.stderr.write(f"ready VM: {error}; booting instead\n")
                await vm.kill()
                await vm.monitor.close()
                # Without its state directory nobody waits for it any more.
                await moving
                machine, vmm = await self._start_in_place(request, config, state_dir)
                sandbox.own(self._vm, about(machine, self._why, vmm, ""))
                sandbox.has_its_vm.set()
                await self._vm.boot(config.boot_timeout, {"hostname": request["id"]})
            finally:
                sandbox.has_its_vm.set()

        # The guest is at work on it while the server starts.
        renewing = asyncio.create_task(renew())
        await asyncio.sleep(0)
        sandbox.has_its_vm.clear()
        own = about(self._machine, self._why, vmm, key)
        return await serve(sandbox, vm, state_dir, own, go_on)

    async def _start_in_place(
        self, request: dict[str, Any], config: VMConfig, state_dir: str
    ) -> tuple[Machine, Vmm]:
        from .vm import VirtualMachine

        machine, self._why = machine_of(request["id"], state_dir, config)
        machine = machine._replace(share=self._machine.share, jail=self._machine.jail)
        here = place.namespace()
        # Not in a thread: QEMU ends with the thread that started it.
        place.enter_namespace(self._own)
        try:
            vmm = template.start_vm(machine, None)
        finally:
            place.enter_namespace(here)
            os.close(here)
        self._vm = VirtualMachine(machine, vmm, lambda event: self._on_event(event))
        await self._vm.open(os.path.join(state_dir, CONSOLE_LOG))
        return machine, vmm


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
