"""The Task service (containerd.task.v2): what containerd asks of a shim."""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ... import __version__
from ...errors import BadRequest, Conflict, HyperError, NotFound, NotSupported
from ...oci import fields, records, update, validate
from ...oci.making import Settings
from ...sandbox import read_state
from ...sandbox.calls import call as ask
from ...sandbox.calls import follow
from ..api import runc_pb2, shim_task_pb2, task_types_pb2
from ..api.methods import methods_of
from ..ttrpc.connection import Call
from ..ttrpc.server import Endpoint
from . import options
from .address import root_of
from .publisher import Publisher
from .stdio import Stdio
from .task import Task

SERVICE = "containerd.task.v2.Task"
_MAX_SIGNAL = 64
_STATS_BOUND = 30.0
pb = shim_task_pb2


class TaskService:
    """The containers of one shim. `stop` ends it."""

    def __init__(self, namespace: str, publisher: Publisher, stop: Callable[[], None]) -> None:
        self._namespace = namespace
        self._root = root_of(namespace)
        self._publisher = publisher
        self._stop = stop
        self._tasks: dict[str, Task] = {}
        self._creating: set[str] = set()
        self._followed: set[str] = set()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def endpoints(self) -> dict[str, Endpoint]:
        """The methods by name."""
        handlers: dict[str, Callable[[Any, Call], Message | None]] = {
            "State": self._state,
            "Create": self._create,
            "Start": self._start,
            "Delete": self._delete,
            "Pids": self._pids,
            "Pause": self._pause,
            "Resume": self._resume,
            "Checkpoint": self._checkpoint,
            "Kill": self._kill,
            "Exec": self._exec,
            "ResizePty": self._resize,
            "CloseIO": self._close_io,
            "Update": self._update,
            "Wait": self._wait,
            "Stats": self._stats,
            "Connect": self._connect,
            "Shutdown": self._shutdown,
        }
        methods = methods_of(pb.DESCRIPTOR.services_by_name["Task"])
        return {name: Endpoint(methods[name], handler) for name, handler in handlers.items()}

    def _task(self, cid: str) -> Task:
        task = self._tasks.get(cid)
        if task is None or not task.record:
            raise NotFound(f"no container {cid} in this shim")
        return task

    def _state(self, request: pb.StateRequest, call: Call) -> Message:
        task = self._task(request.id)
        return task.process(request.exec_id).state(task.cid, task.bundle)

    def _create(self, request: pb.CreateTaskRequest, call: Call) -> Message:
        if request.checkpoint or request.parent_checkpoint:
            raise NotSupported("create of a checkpoint is not supported: runv has none")
        records.check_id(request.id)
        settings = options.read(request.options, self._root)
        with self._lock:
            if request.id in self._tasks or request.id in self._creating:
                raise Conflict(f"container {request.id} exists already")
            self._creating.add(request.id)
        try:
            # One after the other: the first of a pod makes the VM that the others join.
            with self._making:
                self._make(request, settings)
        finally:
            self._creating.discard(request.id)
        return pb.CreateTaskResponse(pid=self._task(request.id).init.pid)

    def _make(self, request: pb.CreateTaskRequest, settings: Settings) -> None:
        task = Task(request, self._namespace, settings, self._publisher.publish)
        # Known to those who follow the sandbox before anything can happen in it.
        self._tasks[request.id] = task
        try:
            task.create(request, self._pod(), self._follow)
        except BaseException:
            del self._tasks[request.id]
            raise

    def _pod(self) -> records.Record | None:
        """A container of this shim whose VM lives; another container joins that."""
        for task in self._tasks.values():
            state = read_state(task.sandbox)
            if state is not None and state["alive"] and state["status"] != "stopped":
                return task.record
        return None

    def _follow(self, sandbox: str) -> None:
        """Hear of the ends of a sandbox's processes, from now until its own."""
        if sandbox in self._followed:
            return
        events = follow(sandbox)
        next(events)
        self._followed.add(sandbox)
        threading.Thread(target=self._listen, args=(sandbox, events), daemon=True).start()

    def _listen(self, sandbox: str, events: Any) -> None:
        try:
            for event in events:
                if event.get("type") == "exit":
                    self._exited(sandbox, event)
        except (HyperError, ValueError) as error:
            sys.stderr.write(f"events of {sandbox}: {error}\n")
        finally:
            self._followed.discard(sandbox)
            for task in list(self._tasks.values()):
                task.lost(sandbox)

    def _exited(self, sandbox: str, event: dict[str, Any]) -> None:
        code = event.get("code")
        status = code if isinstance(code, int) else 255
        for task in list(self._tasks.values()):
            if (task.sandbox, task.guest_id) == (sandbox, event.get("container")):
                task.exited(str(event.get("process")), status, oom=event.get("oom") is True)

    def _start(self, request: pb.StartRequest, call: Call) -> Message:
        task = self._task(request.id)
        if request.exec_id:
            return pb.StartResponse(pid=task.start_exec(request.exec_id).pid)
        task.start()
        return pb.StartResponse(pid=task.init.pid)

    def _delete(self, request: pb.DeleteRequest, call: Call) -> Message:
        task = self._task(request.id)
        if request.exec_id:
            return task.delete_exec(request.exec_id).delete_response()
        process = task.delete()
        self._tasks.pop(request.id, None)
        return process.delete_response()

    def _pids(self, request: pb.PidsRequest, call: Call) -> Message:
        task = self._task(request.id)
        found = []
        for process in (task.init, *task.execs.values()):
            if not process.pid or process.over:
                continue
            info = task_types_pb2.ProcessInfo(pid=process.pid)
            if process.exec_id:
                details = runc_pb2.ProcessDetails(exec_id=process.exec_id)
                info.info.CopyFrom(_any(details))
            found.append(info)
        return pb.PidsResponse(processes=found)

    def _pause(self, request: pb.PauseRequest, call: Call) -> Message:
        self._task(request.id).freeze(frozen=True)
        return Empty()

    def _resume(self, request: pb.ResumeRequest, call: Call) -> Message:
        self._task(request.id).freeze(frozen=False)
        return Empty()

    def _checkpoint(self, request: pb.CheckpointTaskRequest, call: Call) -> Message:
        raise NotSupported("checkpoint is not supported: runv has no snapshot of a container")

    def _kill(self, request: pb.KillRequest, call: Call) -> Message:
        if not 0 <= request.signal <= _MAX_SIGNAL:
            raise BadRequest(f"signal: {request.signal} is not between 0 and {_MAX_SIGNAL}")
        task = self._task(request.id)
        task.kill(request.exec_id, request.signal, to_all=request.all)
        return Empty()

    def _exec(self, request: pb.ExecProcessRequest, call: Call) -> Message:
        task = self._task(request.id)
        if not request.exec_id:
            raise BadRequest("exec_id: a name for the process is needed")
        spec = _json(request.spec, "spec")
        spec["terminal"] = request.terminal
        validate.check_process(spec)
        io = Stdio(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        task.add_exec(request.exec_id, io, spec)
        return Empty()

    def _resize(self, request: pb.ResizePtyRequest, call: Call) -> Message:
        task = self._task(request.id)
        task.resize(request.exec_id, request.height, request.width)
        return Empty()

    def _close_io(self, request: pb.CloseIORequest, call: Call) -> Message:
        if request.stdin:
            self._task(request.id).process(request.exec_id).io.close_stdin()
        return Empty()

    def _update(self, request: pb.UpdateTaskRequest, call: Call) -> Message:
        task = self._task(request.id)
        changes = _json(request.resources, "resources")
        fields.check({"linux": {"resources": changes}})
        update.change(task.settings.root, task.cid, changes)
        return Empty()

    def _wait(self, request: pb.WaitRequest, call: Call) -> Message | None:
        return self._task(request.id).process(request.exec_id).wait(call)

    def _stats(self, request: pb.StatsRequest, call: Call) -> Message:
        from .stats import metrics

        task = self._task(request.id)
        asked = {"container": task.guest_id}
        answer = ask(task.sandbox, "stats", asked, timeout=_STATS_BOUND)
        files = {str(name): str(text) for name, text in answer["files"].items()}
        return pb.StatsResponse(stats=_any(metrics(files)))

    def _connect(self, request: pb.ConnectRequest, call: Call) -> Message:
        task = self._tasks.get(request.id)
        pid = task.init.pid if task else 0
        return pb.ConnectResponse(shim_pid=os.getpid(), task_pid=pid, version=__version__)

    def _shutdown(self, request: pb.ShutdownRequest, call: Call) -> Message | None:
        """Others of the pod keep the shim, as containerd asks for this after each of them."""
        with self._lock:
            if self._tasks or self._creating:
                return Empty()
        call.answer(Empty())
        self._stop()
        return None


def _any(message: Message) -> AnyMessage:
    """As containerd's typeurl has it: without a prefix."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def _json(given: AnyMessage, what: str) -> dict[str, Any]:
    """The object in an Any of JSON, as containerd sends parts of the runtime specification."""
    try:
        value = json.loads(given.value)
    except (ValueError, RecursionError):
        raise BadRequest(f"{what}: not JSON") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{what}: an object is expected")
    return value
