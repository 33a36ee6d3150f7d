"""A VM that goes on from a snapshot (see `snapshot`), as itself or as a copy.

`request.json` of the state directory says what it is made of: `directory` of the snapshot,
`memory`, a path of its RAM (a sealed memfd of another process), `containers`, their ids now by
those that they had, `disks`, the present paths by those that they had, and `logs` by present id.
"""

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING, Any

from ..errors import Conflict, HyperError, VMError
from ..guest.protocol import Code
from ..hypervisor.machine import Machine
from ..system.files import write_atomic
from ..system.taps import new_tap
from .containers import Container, Process, now
from .logs import open_log
from .machines import fingerprint
from .snapshot import DESCRIPTION, FORMAT, STATE

if TYPE_CHECKING:
    from .sandbox import Sandbox

_REQUEST = "resume.json"
_NAMES = {
    "kernel": "kernel",
    "initrd": "initrd",
    "bios": "firmware",
    "accel": "engine",
    "cpus": "number of CPUs",
}


def write_request(state_dir: str, request: dict[str, Any]) -> None:
    """Leave word for the sandbox of a state directory. Raises OSError."""
    write_atomic(os.path.join(state_dir, _REQUEST), json.dumps(request).encode())


def was_begun(state_dir: str) -> bool:
    """Whether the guest of a request has run: its disks are no longer what the snapshot knows."""
    return not os.path.exists(os.path.join(state_dir, _REQUEST))


def read_description(directory: str) -> dict[str, Any]:
    """What a snapshot's directory says of its VM. Raises VMError when it can't be used."""
    try:
        with open(os.path.join(directory, DESCRIPTION), "rb") as file:
            description: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        raise VMError(f"the snapshot is damaged: {DESCRIPTION}: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise VMError("the snapshot is of another version of hypercontainer")
    return description


class Resumption:
    """The way from a request to a VM that goes on."""

    def __init__(self, state_dir: str) -> None:
        """Read the request of a state directory, and take the snapshot's files.

        Raises VMError, OSError.
        """
        self._path = os.path.join(state_dir, _REQUEST)
        with open(self._path, "rb") as file:
            self._request: dict[str, Any] = json.load(file)
        directory = self._request["directory"]
        self._saved = read_description(directory)
        self._memory = os.open(self._request["memory"], os.O_RDONLY | os.O_CLOEXEC)
        self._state = os.open(os.path.join(directory, STATE), os.O_RDONLY | os.O_CLOEXEC)

    def machine(self, machine: Machine) -> Machine:
        """The machine to start. Raises Conflict when it is not the one that was saved."""
        saved = self._saved["machine"]
        if machine.cpus == self._saved.get("cpus"):
            # It began with less, and may get as many as on the machine where it did.
            began = (saved.get("cpus"), saved.get("most_cpus"))
            if all(isinstance(count, int) for count in began):
                machine = machine._replace(cpus=began[0], most_cpus=began[1])
        present = fingerprint(machine)
        for key, value in present.items():
            if saved.get(key) != value:
                what = _NAMES.get(key, "machine")
                raise Conflict(
                    f"the snapshot is of another {what}: it can only be continued by the same"
                    " QEMU, kernel and settings that it was made with: remove it, and make another"
                )
        return machine._replace(memory_fd=self._memory, incoming=True, devices_only=True)

    async def run(self, sandbox: "Sandbox") -> None:
        """Load the state, and let the guest go on with new time, randomness and host name.

        Its containers stay frozen until `proceed`. Raises HyperError.
        """
        vm = sandbox.vm
        async with vm.coming_up(vm.request_bound) as bound:
            await vm.monitor.connect(bound)
            version = await vm.monitor.version()
        if version != self._saved["machine"]["qemu"]:
            raise Conflict(
                f"the snapshot is of QEMU {self._saved['machine']['qemu']}, and this is {version}:"
                " remove it, and make another"
            )
        async with vm.coming_up(vm.request_bound) as bound:
            await self._load(sandbox, bound)

    async def _load(self, sandbox: "Sandbox", bound: float) -> None:
        vm, saved = sandbox.vm, self._saved
        if saved["plugged_cpus"] > vm.machine.cpus:
            await vm.monitor.plug_cpus(saved["plugged_cpus"])
        sandbox.has_cpus(saved["cpus"])
        for disk in saved["disks"]:
            await sandbox.holdings.disks.restore(disk, self._request["disks"][disk["path"]])
        await self._plug_cards(sandbox)
        await vm.monitor.load_devices(self._state, bound)
        os.close(self._state)
        vm.control.restore(base64.b64decode(saved["control"]), saved["guest"])
        vm.guest = saved["guest"]
        await self._restore_containers(sandbox)
        streams = saved["streams"]
        vm.streams.restore(base64.b64decode(streams["rest"]), int(streams["next"]))
        os.unlink(self._path)
        await vm.go_on({"hostname": sandbox.sandbox_id}, bound)
        for card in saved["cards"]:
            await vm.request(Code.DELETEINTERFACE, {"mac": card["mac"]})
            await vm.monitor.unplug_network(card["net"])

    async def _plug_cards(self, sandbox: "Sandbox") -> None:
        """The cards that the guest knows, at taps that lead nowhere: it gets others instead."""
        for card in self._saved["cards"]:
            tap, _ = await asyncio.to_thread(new_tap)
            try:
                await sandbox.vm.monitor.plug_network(card["net"], tap, card["mac"], card["slot"])
            finally:
                os.close(tap)

    async def _restore_containers(self, sandbox: "Sandbox") -> None:
        names, paths = self._request["containers"], self._request["disks"]
        for saved in self._saved["containers"]:
            container = Container(names[saved["id"]])
            sandbox.vm.guest_names[container.cid] = saved["guest"]
            container.status = "running" if saved["frozen"] else "paused"
            container.started_at = now()
            container.guest_pid = int(saved["pid"])
            container.disks = [paths[path] for path in saved["disks"]]
            container.seccomp = dict(saved["seccomp"])
            for state in saved["processes"]:
                process = Process.restored(sandbox.vm.streams, state)
                container.processes[process.pid] = process
            await self._open_log(container)
            sandbox.containers.add(container)
            if saved["frozen"]:
                sandbox.frozen.append(container.cid)
        sandbox.used.set()

    async def _open_log(self, container: Container) -> None:
        log = self._request["logs"].get(container.cid)
        if not log:
            return
        try:
            container.log = await open_log(log)
        except OSError as error:
            raise HyperError(f"log of {container.cid}: {error.strerror}") from error
        for output in container.process("init").outputs:
            output.attach(container.log)


async def proceed(sandbox: "Sandbox", containers: dict[str, dict[str, Any]]) -> None:
    """Let the containers of a VM that went on run; `containers` are payloads of RENEWCONTAINER.

    Raises HyperError.
    """
    for cid, about in containers.items():
        payload = {**about, "container": sandbox.containers.get(cid).cid}
        await sandbox.vm.request(Code.RENEWCONTAINER, payload)
    await sandbox.thaw()
    sandbox.save()
