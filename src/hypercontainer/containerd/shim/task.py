"""A container of a shim: made and removed by `oci`, followed by its sandbox's events."""

import os
import threading
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from ...errors import Conflict, HyperError, NotFound, NotRunning
from ...oci import bundle, execute, lifecycle, making, records
from ...oci.making import Settings, Wanted
from ...sandbox.calls import call
from ..api import events_pb2, shim_task_pb2, task_types_pb2
from . import rootfs
from .process import KILLED, Process
from .stdio import Stdio

_INIT = "init"
_OTHERS_BOUND = 3.0


class Task:
    """One container. `publish` sends an event."""

    def __init__(
        self,
        request: shim_task_pb2.CreateTaskRequest,
        namespace: str,
        settings: Settings,
        publish: Callable[[Message], None],
    ) -> None:
        self.cid = request.id
        self.bundle = request.bundle
        self.settings = settings
        io = Stdio(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        self.init = Process("", _INIT, io)
        self.execs: dict[str, Process] = {}
        self.record: records.Record = {}
        self._namespace = namespace
        self._mounted = os.path.join(request.bundle, "rootfs")
        self._writes_disk = False
        self._publish = publish
        self._numbers = 0
        # Held while the state changes and until it is published, so that events keep its order.
        self._lock = threading.RLock()
        self._last_exit: int | None = None

    @property
    def sandbox(self) -> str:
        """The state directory of its sandbox; "" while it has none."""
        return records.sandbox_of(self.settings.root, self.record) if self.record else ""

    @property
    def guest_id(self) -> str:
        """What its sandbox calls it."""
        return str(self.record.get("guest_id", ""))

    def process(self, exec_id: str) -> Process:
        """The first process, or an executed one. Raises NotFound."""
        found = self.execs.get(exec_id) if exec_id else self.init
        if found is None:
            raise NotFound(f"no process {exec_id} in container {self.cid}")
        return found

    def create(
        self,
        request: shim_task_pb2.CreateTaskRequest,
        pod: records.Record | None,
        on_sandbox: Callable[[str], None],
    ) -> None:
        """Make the container up to the point before its program runs. Raises HyperError."""
        records.check_id(self.cid)
        with self._lock, making.Reservation(self.settings.root, self.cid):
            try:
                self._make(request, pod, on_sandbox)
            except BaseException:
                self.init.io.close()
                rootfs.release(self._mounted)
                raise
            self._publish(
                events_pb2.TaskCreate(
                    container_id=self.cid,
                    bundle=self.bundle,
                    rootfs=request.rootfs,
                    io=events_pb2.TaskIO(
                        stdin=request.stdin,
                        stdout=request.stdout,
                        stderr=request.stderr,
                        terminal=request.terminal,
                    ),
                    pid=self.init.pid,
                )
            )

    def _make(
        self,
        request: shim_task_pb2.CreateTaskRequest,
        pod: records.Record | None,
        on_sandbox: Callable[[str], None],
    ) -> None:
        image = rootfs.prepare(request.rootfs, self._mounted)
        config, path = bundle.load(self.bundle)
        making.check(config, path, self.bundle)
        config["process"]["terminal"] = request.terminal
        if image.read_only:
            rootfs.make_read_only(config)
        self._writes_disk = image.image is not None and not image.read_only
        streams = self.init.io.open(self.cid, self._namespace)
        wanted = Wanted(self.cid, self.bundle, config, path, image.image, pod)
        self.record = making.make(self.settings, wanted, streams, on_sandbox)
        self.init.io.handed_over()
        self.init.stands(self.record["pid"])

    def start(self) -> None:
        """Let the program run. Raises NotRunning and what keeps it from running."""
        with self._lock:
            if self.init.status != task_types_pb2.CREATED:
                raise NotRunning(f"container {self.cid} can't be started: it was before")
            try:
                lifecycle.start_container(self.settings.root, self.record)
            except HyperError as error:
                if records.status(self.settings.root, self.record)[0] == "stopped":
                    self._end(self.init, error.exit_code)
                raise
            self.init.status = task_types_pb2.RUNNING
            self._publish(events_pb2.TaskStart(container_id=self.cid, pid=self.init.pid))
        lifecycle.run_poststart(self.record)

    def add_exec(self, exec_id: str, io: Stdio, spec: dict[str, Any]) -> None:
        """Take note of another process, which `start_exec` starts. Raises Conflict, NotRunning."""
        with self._lock:
            if exec_id in self.execs:
                raise Conflict(f"process {exec_id} exists already in container {self.cid}")
            if self.init.over:
                raise NotRunning(f"container {self.cid} is not running")
            self._numbers += 1
            self.execs[exec_id] = Process(exec_id, f"exec-{self._numbers}", io, spec)
            self._publish(events_pb2.TaskExecAdded(container_id=self.cid, exec_id=exec_id))

    def start_exec(self, exec_id: str) -> Process:
        """Start a process. Raises NotFound, NotRunning and what keeps it from running."""
        with self._lock:
            process = self.process(exec_id)
            if process.status != task_types_pb2.CREATED:
                raise NotRunning(f"process {exec_id} can't be started: it was before")
            if not self.init.runs:
                raise NotRunning(f"cannot exec in container {self.cid}: it does not run")
            try:
                streams = process.io.open(self.cid, self._namespace)
                spec = execute.completed(process.spec, self.record)
                execute.start_process(
                    self.settings.root,
                    self.record,
                    spec,
                    streams,
                    process.stands,
                    name=process.name,
                )
            except HyperError as error:
                process.io.close()
                process.finish(error.exit_code)
                raise
            process.io.handed_over()
            process.status = task_types_pb2.RUNNING
            self._publish(
                events_pb2.TaskExecStarted(container_id=self.cid, exec_id=exec_id, pid=process.pid)
            )
        return process

    def freeze(self, *, frozen: bool) -> None:
        """Suspend or resume all processes. Raises NotRunning."""
        with self._lock:
            lifecycle.freeze(self.settings.root, self.cid, frozen=frozen)
            if frozen:
                self.init.status = task_types_pb2.PAUSED
                self._publish(events_pb2.TaskPaused(container_id=self.cid))
            else:
                self.init.status = task_types_pb2.RUNNING
                self._publish(events_pb2.TaskResumed(container_id=self.cid))

    def kill(self, exec_id: str, signum: int, *, to_all: bool) -> None:
        """Send a signal. Raises NotFound when the process has ended, as clients expect."""
        process = self.process(exec_id)
        if process.over and not (to_all and not exec_id):
            raise NotFound(f"process {exec_id or self.cid} has ended already")
        if not exec_id:
            root = self.settings.root
            alive = lifecycle.signal_container(root, self.record, signum, to_all=to_all)
            if not alive and not to_all:
                raise NotFound(f"process {self.cid} has ended already")
            return
        if not process.pid:
            raise NotRunning(f"process {exec_id} was not started")
        self._ask("signal", process, signal=signum)

    def resize(self, exec_id: str, rows: int, cols: int) -> None:
        """Set the size of a terminal; it starts with it if it has not yet. Raises NotFound."""
        process = self.process(exec_id)
        with self._lock:
            if exec_id and process.status == task_types_pb2.CREATED:
                process.spec["consoleSize"] = {"height": rows, "width": cols}
                return
        self._ask("resize", process, rows=rows, cols=cols)

    def _ask(self, op: str, process: Process, **request: Any) -> None:
        names = {"container": self.guest_id, "process": process.name}
        try:
            call(self.sandbox, op, {**names, **request})
        except NotRunning:
            raise NotFound(f"process {process.exec_id or self.cid} has ended already") from None

    def exited(self, name: str, exit_status: int, *, oom: bool) -> None:
        """A process has ended in the guest. The first one's end is told after the others'."""
        with self._lock:
            process = next((p for p in (self.init, *self.execs.values()) if p.name == name), None)
            if process is None or process.over:
                return
            if oom:
                self._publish(events_pb2.TaskOOM(container_id=self.cid))
            if process is self.init and any(p.runs for p in self.execs.values()):
                self._last_exit = exit_status
                timer = threading.Timer(_OTHERS_BOUND, self._give_up_others)
                timer.daemon = True
                timer.start()
                return
            self._end(process, exit_status)
            if self._last_exit is not None and not any(p.runs for p in self.execs.values()):
                self._end(self.init, self._last_exit)

    def lost(self, sandbox: str) -> None:
        """The VM of `sandbox` is gone; if it was this one's, with it what still ran."""
        with self._lock:
            if self.sandbox != sandbox:
                return
            for process in (*self.execs.values(), self.init):
                if process.pid and not process.over:
                    last = self._last_exit if process is self.init else None
                    self._end(process, KILLED if last is None else last)

    def _give_up_others(self) -> None:
        with self._lock:
            for process in self.execs.values():
                if process.runs:
                    self._end(process, KILLED)
            if self._last_exit is not None:
                self._end(self.init, self._last_exit)

    def _end(self, process: Process, exit_status: int) -> None:
        if process.over:
            return
        process.finish(exit_status)
        self._publish(
            events_pb2.TaskExit(
                container_id=self.cid,
                id=process.exec_id or self.cid,
                pid=process.pid,
                exit_status=process.exit_status,
                exited_at=process.exited_at,
            )
        )

    def delete_exec(self, exec_id: str) -> Process:
        """Forget a process that does not run. Raises NotFound, NotRunning."""
        with self._lock:
            process = self.process(exec_id)
            if process.runs:
                raise NotRunning(f"process {exec_id} can't be deleted: it runs")
            del self.execs[exec_id]
        process.deliver()
        process.io.close()
        process.reap()
        return process

    def delete(self) -> Process:
        """Remove all of the container. Raises NotRunning while it runs."""
        with self._lock:
            if self.init.runs:
                raise NotRunning(f"container {self.cid} can't be deleted: it runs")
            everyone = (*self.execs.values(), self.init)
        if self.init.over:
            for process in everyone:
                process.deliver()
            if self._writes_disk:
                lifecycle.await_orderly_end(self.settings.root, self.record)
        with self._lock:
            with records.locked(self.settings.root, self.cid):
                lifecycle.destroy(self.settings.root, self.cid)
            for process in everyone:
                process.reap()
                process.io.close()
            rootfs.release(self._mounted)
            self._publish(
                events_pb2.TaskDelete(
                    container_id=self.cid,
                    pid=self.init.pid,
                    exit_status=self.init.exit_status,
                    exited_at=self.init.exited_at,
                )
            )
        return self.init
