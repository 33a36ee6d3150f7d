"""Processes run in containers by exec: prepared, started once, remembered for a while."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from ..errors import BadRequest, Conflict, NotFound
from . import oci
from .model import Container, Pod
from .names import random_id
from .reading import Node

_REMEMBERED = 1024


@dataclass(slots=True)
class Exec:
    """An exec of a container. `exit_code` is None until it is known."""

    id: str
    container_id: str
    process: dict[str, Any]
    stdin: bool
    detach: bool
    started: bool = False
    exit_code: int | None = None


class Execs:
    """The execs of this hyperd, in memory: the last 1024 of them."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, Exec] = OrderedDict()

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
        exec_ = Exec(
            id=random_id("exec"),
            container_id=container.id,
            process={},
            stdin=node.boolean("stdin"),
            detach=node.boolean("detach"),
        )
        node.done()
        process = oci.process_of(container.spec, container.image_config, pod.hostname)
        process |= {"args": list(command), "terminal": tty}
        process["env"] = _merged(process["env"], extra, tty)
        if user:
            process["user"] = oci.user_object(user, container.spec.groups)
        if workdir:
            process["cwd"] = workdir
        exec_.process = process
        self._all[exec_.id] = exec_
        while len(self._all) > _REMEMBERED:
            self._all.popitem(last=False)
        return exec_

    def get(self, exec_id: str, container: Container | None = None) -> Exec:
        """Raises NotFound."""
        exec_ = self._all.get(exec_id)
        if exec_ is None or (container is not None and exec_.container_id != container.id):
            raise NotFound(f"no such exec: {exec_id}")
        return exec_

    def begin(self, exec_: Exec) -> None:
        """Mark as started. Raises Conflict the second time."""
        if exec_.started:
            raise Conflict(f"exec {exec_.id} was started already: create another")
        exec_.started = True


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
