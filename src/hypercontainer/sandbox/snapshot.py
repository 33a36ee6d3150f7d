"""Saving a VM with all that runs in it, so that copies of it can go on: see `resume`.

The containers are frozen in the guest first, so that nothing runs in a copy before that has
names, time and randomness of its own. Then nothing is under way on the channels, the VM stops,
and what it consists of is written:

    state        its devices, as QEMU saves them
    ram          its memory; a file with holes, or a memfd that the caller gave
    disk-N.img   its writable disks, by LUN
    vm.json      what belongs together: the machine, disks, cards, containers, streams
"""

import asyncio
import base64
import fcntl
import json
import os
import struct
import termios
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from ..errors import (
    Conflict,
    HyperError,
    NoSpace,
    NotFound,
    NotRunning,
    NotSupported,
    Timeout,
    is_full,
)
from ..guest.protocol import Code
from ..hypervisor import ram
from ..system import sparse
from .machines import fingerprint

if TYPE_CHECKING:
    from .containers import Container
    from .sandbox import Sandbox
    from .vm import VirtualMachine

FORMAT = 1
STATE, DESCRIPTION = "state", "vm.json"
# SIOCOUTQ of linux/sockios.h: what the peer has not read.
_SIOCOUTQ = 0x5411
_POLL = 0.001


def disk_file(lun: int) -> str:
    """The name of a disk's copy."""
    return f"disk-{lun}.img"


async def take(
    sandbox: "Sandbox", directory: str, memory: int, *, disks: bool, stay: bool
) -> dict[str, Any]:
    """Save the VM into `directory`, its RAM into the empty file `memory`.

    With `disks` its writable disks are copied. The VM goes on afterwards, or with `stay` it is
    left paused. Returns `paused_ms`, for how long it stood still, and `memory`, bytes of data.
    Raises NotRunning, NotSupported, Conflict, NotFound (a disk), NoSpace, Timeout, VMError; the
    VM goes on then.
    """
    # What is being plugged would belong to the machine, and not be known.
    async with sandbox.growing:
        return await _take(sandbox, directory, memory, disks=disks, stay=stay)


async def _take(
    sandbox: "Sandbox", directory: str, memory: int, *, disks: bool, stay: bool
) -> dict[str, Any]:
    _check(sandbox)
    vm = sandbox.vm
    frozen: list[str] = []
    kept = False
    try:
        await _freeze(sandbox, frozen)
        async with vm.control.quiet(vm.request_bound):
            begun = time.monotonic()
            async with _still(vm) as still:
                answer = await _save(sandbox, directory, memory, frozen, disks=disks)
                still.kept = kept = stay
            answer["paused_ms"] = round(1000 * (time.monotonic() - begun))
        if kept:
            sandbox.keep_paused(frozen)
        return answer
    finally:
        if not kept:
            await _thaw(sandbox, frozen)


def _check(sandbox: "Sandbox") -> None:
    if sandbox.status != "running":
        hint = ": unpause it first" if sandbox.status == "paused" else ""
        raise NotRunning(f"the virtual machine is {sandbox.status}{hint}")
    features = sandbox.vm.features
    if not features.snapshots:
        raise NotSupported(f"a virtual machine of {features.name} can't be saved")
    if sandbox.vm.machine.share or sandbox.follows_network:
        raise NotSupported(
            "the virtual machine has directories of the host or follows a network namespace,"
            " which can't be saved with it"
        )
    if sandbox.memory_mib != sandbox.vm.machine.memory_mib:
        raise NotSupported(
            "the virtual machine got more memory while it ran, which can't be saved with it:"
            " stop and start it, and it has all of its memory from the beginning"
        )
    for container in sandbox.containers:
        if container.auxiliary:
            raise Conflict("a process of the virtual machine itself runs: wait until it ends")
        if container.status == "created":
            raise Conflict(f"container {container.cid} is just being started: try again")


async def _freeze(sandbox: "Sandbox", frozen: list[str]) -> None:
    for container in sandbox.containers:
        if container.status == "running":
            about = {"container": container.cid, "frozen": True}
            frozen.append(container.cid)
            await sandbox.vm.request(Code.FREEZECONTAINER, about)


async def _thaw(sandbox: "Sandbox", frozen: list[str]) -> None:
    """A container whose first process has ended meanwhile is none that can be thawed."""
    for cid in frozen:
        with suppress(HyperError):
            await sandbox.vm.request(Code.FREEZECONTAINER, {"container": cid, "frozen": False})
    with suppress(HyperError):
        await sandbox.vm.set_time()


class _Still:
    """A VM that stands still; with `kept` it stays so."""

    kept = False


@asynccontextmanager
async def _still(vm: "VirtualMachine") -> AsyncIterator[_Still]:
    """Stop the VM at a moment when all that we sent is in it, and all that it sent is here.

    No request may be under way. Raises Timeout, VMError.
    """
    still = _Still()
    vm.streams.hold()
    try:
        await _all_sent(vm)
        await vm.monitor.pause()
        try:
            await _all_received(vm)
            yield still
        finally:
            if not still.kept:
                await vm.monitor.resume()
    finally:
        vm.streams.release()


def _sockets(vm: "VirtualMachine") -> list[tuple[asyncio.Transport, int]]:
    transports = [channel.transport for channel in (vm.control, vm.streams)]
    return [
        (transport, transport.get_extra_info("socket").fileno())
        for transport in transports
        if transport is not None and not transport.is_closing()
    ]


def _count(fd: int, request: int) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(fd, request, bytes(4)))
    return int(count)


async def _all_sent(vm: "VirtualMachine") -> None:
    deadline = time.monotonic() + vm.request_bound
    while any(t.get_write_buffer_size() or _count(fd, _SIOCOUTQ) for t, fd in _sockets(vm)):
        if time.monotonic() > deadline:
            raise Timeout(f"the guest took no input for {vm.request_bound:.0f} s")
        await asyncio.sleep(_POLL)


async def _all_received(vm: "VirtualMachine") -> None:
    """What QEMU still had of the guest's output comes while it is read."""
    deadline = time.monotonic() + vm.request_bound
    waiting = True
    while waiting:
        await vm.monitor.settle()
        waiting = False
        while any(_count(fd, termios.FIONREAD) for _, fd in _sockets(vm)):
            waiting = True
            if time.monotonic() > deadline:
                raise Timeout("the guest's output had no end")
            await asyncio.sleep(0)


async def _save(
    sandbox: "Sandbox", directory: str, memory: int, frozen: list[str], *, disks: bool
) -> dict[str, Any]:
    vm = sandbox.vm
    description = await _describe(sandbox, frozen)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        state = os.open(os.path.join(directory, STATE), flags, 0o600)
        try:
            await vm.monitor.save_devices(state)
        finally:
            os.close(state)
        size = await asyncio.to_thread(
            ram.copy,
            vm.vmm.pid,
            await vm.monitor.ram_address(),
            vm.machine.memory_mib << 20,
            memory,
        )
        if disks:
            for disk in description["disks"]:
                if not disk["read_only"]:
                    await asyncio.to_thread(_copy_disk, disk, directory)
        with open(os.path.join(directory, DESCRIPTION), "x") as file:
            json.dump(description, file)
    except OSError as error:
        kind = NoSpace if is_full(error) else HyperError
        raise kind(f"save the virtual machine in {directory}: {error.strerror}") from error
    return {"memory": size}


def _copy_disk(disk: dict[str, Any], directory: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        old = os.open(disk["path"], os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"the disk {disk['path']} of the virtual machine is gone") from None
    try:
        new = os.open(os.path.join(directory, disk_file(disk["lun"])), flags, 0o600)
        try:
            sparse.copy(old, new)
        finally:
            os.close(new)
    finally:
        os.close(old)


async def _describe(sandbox: "Sandbox", frozen: list[str]) -> dict[str, Any]:
    vm = sandbox.vm
    slots = await vm.monitor.card_slots()
    rest, following = vm.streams.state()
    return {
        "format": FORMAT,
        "machine": {"qemu": await vm.monitor.version(), **fingerprint(vm.machine)},
        "cpus": sandbox.cpus,
        "plugged_cpus": await vm.monitor.plugged_cpus(),
        "config": sandbox.config.to_json(),
        "guest": vm.guest,
        "disks": sandbox.holdings.disks.to_json(),
        "cards": [
            {"net": card["net"], "mac": card["mac"], "slot": slots[card["net"]]}
            for card in sandbox.cards.to_json()
        ],
        "containers": [
            _described(container, vm, frozen=container.cid in frozen)
            for container in sandbox.containers
            if container.status in ("running", "paused")
        ],
        "control": base64.b64encode(vm.control.state()).decode(),
        "streams": {"rest": base64.b64encode(rest).decode(), "next": following},
    }


def _described(container: "Container", vm: "VirtualMachine", *, frozen: bool) -> dict[str, Any]:
    return {
        "id": container.cid,
        "guest": vm.guest_names.get(container.cid, container.cid),
        "frozen": frozen,
        "pid": container.guest_pid,
        "disks": container.disks,
        "seccomp": container.seccomp,
        "processes": [p.state() for p in container.processes.values() if not p.exiting],
    }
