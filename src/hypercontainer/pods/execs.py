"""Processes run in containers by exec: prepared, started once, remembered for a while.

A started one is known to the sandbox too, where the next hyperd finds it.
"""

import asyncio
import re
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadRequest, Conflict, HyperError, NotFound
from ..sandbox import SandboxClient
from ..system.tasks import Tasks
from . import oci
from .model import Attachment, Container, Pod
from .names import random_id
from .reading import Node
from .registry import Registry
from .vmexec import create_in_vm, vm_process

_REMEMBERED = 1024
INIT = "init"
_KILLED = 137
_ID = re.compile(r"exec-[A-Za-z0-9]{1,64}", re.ASCII)


@dataclass(slots=True, eq=False)
class Exec:
    """An exec of a container. `exit_code` is None until it is known, and then `ended` is set.

    `process` is the OCI process object; empty for one that an earlier hyperd started.
    With `vm` it runs in the container's VM, outside all containers.
    """

    id: str
    container_id: str
    args: list[str]
    tty: bool
    stdin: bool
    detach: bool = False
    vm: bool = False
    process: dict[str, Any] = field(default_factory=dict)
    started: bool = False
    exit_code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def place(self) -> tuple[str, str]:
        """Its container and its process in the sandbox."""
        return (self.id, INIT) if self.vm else (self.container_id, self.id)

    def end(self, code: int) -> None:
        """Record the end."""
        if self.exit_code is None:
            self.exit_code = code
        self.ended.set()


class Execs:
    """The execs of this hyperd, in memory: the last 1024 of them."""

    def __init__(self, registry: Registry, tools: Path) -> None:
        """`tools` is the directory for the disk of what runs in VMs outside containers."""
        self._registry = registry
        self._tools = tools
        self._all: OrderedDict[str, Exec] = OrderedDict()
        self._watchers = Tasks()

    async def close(self) -> None:
        """Stop watching; the processes go on."""
        self._watchers.cancel()

    def create(self, pod: Pod, container: Container, body: object) -> Exec:
        """Prepare a process. Raises BadRequest with the path of the bad key."""
        node = Node(body, "exec")
        command = node.texts("command")
        if not command or not command[0]:
            raise BadRequest("exec.command: a program is needed")
        tty, user, workdir = node.boolean("tty"), node.text("user"), node.text("workdir")
        extra = node.texts("env")
        if workdir and not workdir.startswith("/"):
            raise node.bad("workdir", f"{workdir!r} is not an absolute path")
        stdin, detach, vm = node.boolean("stdin"), node.boolean("detach"), node.boolean("vm")
        if vm and user:
            raise node.bad("user", "in the VM itself there is root only")
        node.done()
        process = oci.process_of(container.spec, container.image_config, pod.hostname)
        process |= {"args": list(command), "terminal": tty}
        process["env"] = _merged(process["env"], extra, tty)
        if user:
            process["user"] = oci.user_object(user, container.spec.groups)
        if workdir:
            process["cwd"] = workdir
        if vm:
            process = vm_process(
                list(command), tty=tty, env=_merged([], extra, tty), workdir=workdir
            )
        exec_ = Exec(
            random_id("exec"), container.id, list(command), tty, stdin, detach, vm, process
        )
        self._remember(exec_)
        self._tell("exec_create", container, exec_)
        return exec_

    def _remember(self, exec_: Exec) -> None:
        self._all[exec_.id] = exec_
        while len(self._all) > _REMEMBERED:
            self._all.popitem(last=False)

    def _tell(self, action: str, container: Container, exec_: Exec, **more: str) -> None:
        shown = action if more else f"{action}: {' '.join(exec_.args)[:1024]}"
        pod = self._registry.pod_of(container)
        self._registry.events.container(shown, pod, container, execID=exec_.id, **more)

    async def find(self, exec_id: str, container: Container | None = None) -> Exec:
        """An exec, maybe of that container only. Raises NotFound."""
        exec_ = self._all.get(exec_id)
        if exec_ is None and _ID.fullmatch(exec_id):
            exec_ = await self._ask(exec_id, container)
        if exec_ is None or (container is not None and exec_.container_id != container.id):
            raise NotFound(f"no such exec: {exec_id}")
        return exec_

    async def _ask(self, exec_id: str, container: Container | None) -> Exec | None:
        """Look for an exec of an earlier hyperd in the sandboxes."""
        for candidate in [container] if container else self._registry.containers:
            client = self._registry.pod_of(candidate).client
            if client is None or not candidate.live:
                continue
            about, vm = await _about(client, candidate, exec_id)
            if about is None:
                continue
            exec_ = Exec(
                exec_id,
                candidate.id,
                list(about["args"]),
                bool(about["terminal"]),
                bool(about["stdin"]),
                vm=vm,
                started=True,
            )
            if about["exit"] is not None:
                exec_.end(int(about["exit"]["code"]))
            else:
                self._watch(client, candidate, exec_)
            self._remember(exec_)
            return exec_
        return None

    async def start(
        self, exec_: Exec, container: Container, client: SandboxClient
    ) -> Attachment | None:
        """Start it, once; its streams, unless it was created detached.

        Raises Conflict the second time, ProgramError, NotRunning, NotSupported.
        """
        if exec_.started:
            raise Conflict(f"exec {exec_.id} was started already: create another")
        exec_.started = True
        try:
            if exec_.vm:
                await create_in_vm(client, exec_, self._tools)
            else:
                await client.exec(
                    container.id, exec_.id, exec_.process, stdin=exec_.stdin, detach=exec_.detach
                )
            streams: Attachment | None = None
            if not exec_.detach:
                streams = await client.attach(*exec_.place, stdin=exec_.stdin)
            if exec_.vm:
                await client.start_container(exec_.id)
        except Exception as error:
            exec_.end(getattr(error, "exit_code", 125))
            raise
        self._tell("exec_start", container, exec_)
        self._watch(client, container, exec_)
        return streams

    def _watch(self, client: SandboxClient, container: Container, exec_: Exec) -> None:
        self._watchers.spawn(self._await_end(client, container, exec_))

    async def _await_end(self, client: SandboxClient, container: Container, exec_: Exec) -> None:
        try:
            code = (await client.wait(*exec_.place)).code
        except HyperError:
            code = _KILLED  # with its VM
        exec_.end(code)
        if exec_.vm:
            with suppress(HyperError):
                await client.remove_container(exec_.id)
        if self._registry.knows(container):
            self._tell("exec_die", container, exec_, exitCode=str(code))


async def _about(
    client: SandboxClient, container: Container, exec_id: str
) -> tuple[dict[str, Any] | None, bool]:
    """What a sandbox knows of an exec, and whether it is one of the VM."""
    for cid, pid, vm in ((container.id, exec_id, False), (exec_id, INIT, True)):
        with suppress(HyperError):
            return await client.process(cid, pid), vm
    return None, False


def _merged(env: list[str], extra: tuple[str, ...], tty: bool) -> list[str]:
    """The container's variables with those of the exec; TERM belongs to a terminal."""
    merged = dict(entry.partition("=")[::2] for entry in env)
    if tty:
        merged.setdefault("TERM", "xterm")
    for index, entry in enumerate(extra):
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise BadRequest(f"exec.env[{index}]: {entry!r} is not of the form NAME=VALUE")
        merged[name] = value
    return [f"{name}={value}" for name, value in merged.items()]
