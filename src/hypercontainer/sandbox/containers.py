"""The containers of a VM and their processes, as the sandbox knows them."""

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, Conflict, NotFound
from ..guest.streams import InputStream, StreamChannel
from ..system.patience import slowness
from .logs import LogSink
from .resolver import ResolverFile
from .stdio import STDERR, STDOUT, Output

if TYPE_CHECKING:
    from .passed_process import PassedProcess

INIT = "init"
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DRAIN_STALL = 2.0
_MAX_ARGS = 4096


def now() -> str:
    """The time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def check_id(what: str, value: Any) -> str:
    """An identifier that the guest accepts. Raises BadRequest."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise BadRequest(
            f"{what} id {value!r} is not valid: 1 to 128 letters, digits, '_', '-' or '.',"
            " not starting with '.'"
        )
    return value


class Process:
    """A process of a container: its streams while it runs, its status once it is over."""

    def __init__(
        self,
        channel: StreamChannel,
        pid: str,
        *,
        terminal: bool,
        stdin: bool,
        hold: bool,
        numbers: tuple[int, int | None] | None = None,
    ) -> None:
        """`numbers` are those of its streams (stdio, stderr), None for new ones."""
        self.pid = pid
        self.terminal = terminal
        if numbers is None:
            numbers = (channel.new_number(), None if terminal else channel.new_number())
        self.stdio, self.stderr = numbers
        self.stdin: InputStream | None = channel.input(self.stdio) if stdin else None
        self.outputs = [Output(channel.output(self.stdio), STDOUT, hold=hold)]
        if self.stderr is not None:
            self.outputs.append(Output(channel.output(self.stderr), STDERR, hold=hold))
        self._channel = channel
        self.args: list[str] = []
        self.finished: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.exiting = False

    async def finish(self, status: dict[str, Any]) -> None:
        """The process has ended: deliver what is left of its output, then its status.

        A reader that takes nothing for 2 s (more on an emulated host) no longer holds it up.
        """
        self.exiting = True
        for output in self.outputs:
            output.drain()
        while not all(output.done.is_set() for output in self.outputs):
            seen = sum(output.received for output in self.outputs)
            try:
                async with asyncio.timeout(_DRAIN_STALL * slowness()):
                    for output in self.outputs:
                        await output.done.wait()
            except TimeoutError:
                if seen == sum(output.received for output in self.outputs):
                    break
        if not self.finished.done():
            self.finished.set_result({**status, "finished_at": now()})
        if self.stdin is not None:
            self.stdin.abandon()

    def to_json(self) -> dict[str, Any]:
        """What it is, and how it ended; `exit` is None while it runs."""
        return {
            "args": self.args,
            "terminal": self.terminal,
            "stdin": self.stdin is not None,
            "exit": self.finished.result() if self.finished.done() else None,
        }

    def state(self) -> dict[str, Any]:
        """What a copy of it needs, whose guest is a copy of this one's."""
        return {
            "id": self.pid,
            "terminal": self.terminal,
            "args": self.args,
            "outputs": [output.stream.state() for output in self.outputs],
            "stdin": self.stdin.state() if self.stdin is not None else None,
        }

    @classmethod
    def restored(cls, channel: StreamChannel, state: dict[str, Any]) -> "Process":
        """A process of which `state` is that."""
        stdio, *stderr = (int(output["number"]) for output in state["outputs"])
        process = cls(
            channel,
            str(state["id"]),
            terminal=bool(state["terminal"]),
            stdin=state["stdin"] is not None,
            hold=False,
            numbers=(stdio, stderr[0] if stderr else None),
        )
        process.args = list(state["args"])
        for output, own in zip(process.outputs, state["outputs"], strict=True):
            output.stream.restore(own)
            if output.stream.ended:
                output.done.set()
        if process.stdin is not None:
            process.stdin.restore(state["stdin"])
        return process

    def release(self) -> None:
        """Forget the streams."""
        for number in (self.stdio, self.stderr):
            if number is not None:
                self._channel.forget(number)


class Container:
    """A container of the VM. `status` is created, running, paused or stopped.

    An auxiliary one does not keep the VM alive. `group` are the directories of a control group
    of its own on the host; none if it is in that of the VM.
    """

    def __init__(self, cid: str) -> None:
        self.cid = cid
        self.status = "created"
        self.auxiliary = False
        self.group: list[str] = []
        self.guest_pid = 0
        self.created_at = now()
        self.started_at = ""
        self.exit: dict[str, Any] = {}
        self.processes: dict[str, Process] = {}
        self.disks: list[str] = []
        self.seccomp: dict[str, Any] = {}
        self.log: LogSink | None = None
        self.resolver: ResolverFile | None = None
        self.passed: list[PassedProcess] = []

    def process(self, pid: str) -> Process:
        """The process `pid`. Raises NotFound."""
        try:
            return self.processes[pid]
        except KeyError:
            raise NotFound(f"no such process in container {self.cid}: {pid}") from None

    def to_json(self) -> dict[str, Any]:
        """As in the state file."""
        return {
            "status": self.status,
            "pid": self.guest_pid,
            "exit_code": self.exit.get("code"),
            "signal": self.exit.get("signal", 0),
            "oom": self.exit.get("oom", False),
            "reason": self.exit.get("reason", ""),
            "created_at": self.created_at,
            "started_at": self.started_at,
            "finished_at": self.exit.get("finished_at", ""),
        }


class Containers:
    """All containers of a VM by id."""

    def __init__(self) -> None:
        self._all: dict[str, Container] = {}

    def __iter__(self) -> Any:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def add(self, container: Container) -> None:
        """Raises Conflict when the id is taken."""
        if container.cid in self._all:
            raise Conflict(f"container id {container.cid} is in use: remove that one first")
        self._all[container.cid] = container

    def get(self, cid: Any) -> Container:
        """Raises NotFound."""
        container = self._all.get(cid) if isinstance(cid, str) else None
        if container is None:
            raise NotFound(f"no such container: {cid}")
        return container

    def drop(self, cid: str) -> None:
        """Forget a container."""
        self._all.pop(cid, None)

    def to_json(self) -> dict[str, Any]:
        """As in the state file."""
        return {cid: container.to_json() for cid, container in self._all.items()}


def exit_status(event: dict[str, Any]) -> dict[str, Any]:
    """The exit status in a guest's event, with every value checked."""
    code, signum = event.get("code"), event.get("signal", 0)
    if not isinstance(code, int) or not 0 <= code <= 255:
        code = 255
    if not isinstance(signum, int) or not 0 <= signum <= 64:
        signum = 0
    oom = event.get("oom") is True
    reason = "out of memory" if oom else f"signal {signum}" if signum else ""
    return {"code": code, "signal": signum, "oom": oom, "reason": reason}


def shown_args(process: dict[str, Any]) -> list[str]:
    """The arguments of an OCI process to be remembered: cut where they are long."""
    shown: list[str] = []
    left = _MAX_ARGS
    for argument in map(str, process.get("args") or []):
        if len(argument) > left:
            return [*shown, argument[:left] + "…"]
        shown.append(argument)
        left -= len(argument) + 1
    return shown
