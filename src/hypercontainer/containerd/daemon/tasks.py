"""The service of tasks: what a client asks goes to the task's shim."""

import asyncio
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ...errors import HyperError, NotSupported
from ..api import shim_task_pb2 as shim_api
from ..api import task_types_pb2
from ..api import tasks_pb2 as api
from ..api.types_pb2 import Metric
from . import runtime
from .containers import Containers
from .core import Core
from .fields import fields_of
from .filters import matches, parse
from .names import check_identifier
from .schema import now, stamp
from .server import Bounds, Call
from .shims import CALL_BOUND, Shim
from .snapshotstore import SNAPSHOTTER
from .status import UNAVAILABLE, Remote
from .taskstore import CREATE_BOUND, Task, TaskStore

_BOUNDS: Bounds = {"Create": CREATE_BOUND + CALL_BOUND, "Wait": None}
_STATE_BOUND = 10.0
M = TypeVar("M", bound=Message)


class TasksService:
    """Running containers."""

    descriptor = api.DESCRIPTOR.services_by_name["Tasks"]
    bounds = _BOUNDS

    def __init__(
        self, core: Core, containers: Containers, tasks: TaskStore, options: dict[str, str]
    ) -> None:
        """`options` are those of shims whose container has no others."""
        self._snapshots = core.snapshots
        self._containers = containers
        self._tasks = tasks
        self._options = options

    async def create(self, request: api.CreateTaskRequest, call: Call) -> api.CreateTaskResponse:
        """Make a container's VM and its first process, which does not run yet.

        Raises NotFound, Conflict, NotSupported, BadRequest and what the shim does.
        """
        namespace = call.namespace
        container_id = check_identifier(request.container_id, "container id")
        container = self._containers.find(namespace, container_id)
        runtime.check_name(container.runtime.name)
        if request.checkpoint.digest:
            raise NotSupported("create of a checkpoint is not supported: runv has none")
        if request.runtime_path:
            raise NotSupported(f"runtime {request.runtime_path}: there is runv alone here")
        given = request.options if request.options.value else container.runtime.options
        rootfs = list(request.rootfs)
        if not rootfs and container.snapshot_key and container.snapshotter == SNAPSHOTTER:
            rootfs = self._snapshots.mounts(namespace, container.snapshot_key)
        wanted = shim_api.CreateTaskRequest(
            id=container_id,
            rootfs=rootfs,
            terminal=request.terminal,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            options=runtime.options(given, self._options),
        )
        task = await self._tasks.create(namespace, wanted, container.spec.value)
        return api.CreateTaskResponse(container_id=task.id, pid=task.pid)

    async def _ask(
        self, call: Call, task_id: str, method: str, request: Message, answer: type[M]
    ) -> M:
        _, shim = self._tasks.get(call.namespace, task_id)
        return await shim.call(method, request, answer)

    async def start(self, request: api.StartRequest, call: Call) -> api.StartResponse:
        """Let a process run. Raises NotFound and what the shim does."""
        wanted = shim_api.StartRequest(id=request.container_id, exec_id=request.exec_id)
        answer = await self._ask(call, wanted.id, "Start", wanted, shim_api.StartResponse)
        return api.StartResponse(pid=answer.pid)

    async def delete(self, request: api.DeleteTaskRequest, call: Call) -> api.DeleteResponse:
        """Remove a task that has ended, with its VM. Raises NotFound, and what the shim does."""
        task, shim = self._tasks.get(call.namespace, request.container_id)
        return _deleted(task.id, await self._tasks.delete(task, shim))

    async def delete_process(
        self, request: api.DeleteProcessRequest, call: Call
    ) -> api.DeleteResponse:
        """Forget an executed process that has ended. Raises NotFound, and what the shim does."""
        check_identifier(request.exec_id, "exec id")
        wanted = shim_api.DeleteRequest(id=request.container_id, exec_id=request.exec_id)
        answer = await self._ask(call, wanted.id, "Delete", wanted, shim_api.DeleteResponse)
        return _deleted(request.exec_id, answer)

    async def get(self, request: api.GetRequest, call: Call) -> api.GetResponse:
        """How a process is. Raises NotFound, and what the shim does."""
        wanted = shim_api.StateRequest(id=request.container_id, exec_id=request.exec_id)
        answer = await self._ask(call, wanted.id, "State", wanted, shim_api.StateResponse)
        return api.GetResponse(process=_process(answer))

    async def list(self, request: api.ListTasksRequest, call: Call) -> api.ListTasksResponse:
        """How all tasks are; one whose shim does not answer is of unknown state."""
        wanted = parse([request.filter] if request.filter else [])
        tasks = self._tasks.of(call.namespace)
        found = await asyncio.gather(*(_state(task.id, shim) for task, shim in tasks))
        chosen = [process for process in found if matches(wanted, fields_of(process))]
        return api.ListTasksResponse(tasks=chosen)

    async def kill(self, request: api.KillRequest, call: Call) -> Empty:
        """Send a signal. Raises NotFound, and what the shim does."""
        wanted = shim_api.KillRequest(
            id=request.container_id,
            exec_id=request.exec_id,
            signal=request.signal,
            all=request.all,
        )
        return await self._ask(call, wanted.id, "Kill", wanted, Empty)

    async def exec(self, request: api.ExecProcessRequest, call: Call) -> Empty:
        """Add a process, which does not run yet. Raises NotFound, and what the shim does."""
        check_identifier(request.exec_id, "exec id")
        wanted = shim_api.ExecProcessRequest(
            id=request.container_id,
            exec_id=request.exec_id,
            terminal=request.terminal,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            spec=request.spec,
        )
        return await self._ask(call, wanted.id, "Exec", wanted, Empty)

    async def resize_pty(self, request: api.ResizePtyRequest, call: Call) -> Empty:
        """Set a terminal's size. Raises NotFound, and what the shim does."""
        wanted = shim_api.ResizePtyRequest(
            id=request.container_id,
            exec_id=request.exec_id,
            width=request.width,
            height=request.height,
        )
        return await self._ask(call, wanted.id, "ResizePty", wanted, Empty)

    async def close_io(self, request: api.CloseIORequest, call: Call) -> Empty:
        """End a process's standard input. Raises NotFound, and what the shim does."""
        wanted = shim_api.CloseIORequest(
            id=request.container_id, exec_id=request.exec_id, stdin=request.stdin
        )
        return await self._ask(call, wanted.id, "CloseIO", wanted, Empty)

    async def pause(self, request: api.PauseTaskRequest, call: Call) -> Empty:
        """Suspend a task. Raises NotFound, and what the shim does."""
        wanted = shim_api.PauseRequest(id=request.container_id)
        return await self._ask(call, wanted.id, "Pause", wanted, Empty)

    async def resume(self, request: api.ResumeTaskRequest, call: Call) -> Empty:
        """Let it go on. Raises NotFound, and what the shim does."""
        wanted = shim_api.ResumeRequest(id=request.container_id)
        return await self._ask(call, wanted.id, "Resume", wanted, Empty)

    async def list_pids(self, request: api.ListPidsRequest, call: Call) -> api.ListPidsResponse:
        """The processes of a task. Raises NotFound, and what the shim does."""
        wanted = shim_api.PidsRequest(id=request.container_id)
        answer = await self._ask(call, wanted.id, "Pids", wanted, shim_api.PidsResponse)
        return api.ListPidsResponse(processes=answer.processes)

    async def checkpoint(
        self, request: api.CheckpointTaskRequest, call: Call
    ) -> api.CheckpointTaskResponse:
        """Raises NotSupported."""
        self._tasks.get(call.namespace, request.container_id)
        raise NotSupported("checkpoint is not supported: runv has no snapshot of a container")

    async def update(self, request: api.UpdateTaskRequest, call: Call) -> Empty:
        """Change limits. Raises NotFound, and what the shim does."""
        wanted = shim_api.UpdateTaskRequest(
            id=request.container_id,
            resources=request.resources,
            annotations=request.annotations,
        )
        return await self._ask(call, wanted.id, "Update", wanted, Empty)

    async def metrics(self, request: api.MetricsRequest, call: Call) -> api.MetricsResponse:
        """What tasks use, of those that filters let through and that run."""
        wanted = parse(request.filters)
        found = await asyncio.gather(
            *(
                _stats(task.id, shim)
                for task, shim in self._tasks.of(call.namespace)
                if matches(wanted, fields_of(Metric(id=task.id)))
            )
        )
        return api.MetricsResponse(metrics=[metric for metric in found if metric is not None])

    async def wait(self, request: api.WaitRequest, call: Call) -> api.WaitResponse:
        """How a process ended, once it has. Raises NotFound, and what the shim does."""
        task, shim = self._tasks.get(call.namespace, request.container_id)
        wanted = shim_api.WaitRequest(id=task.id, exec_id=request.exec_id)
        try:
            answer = await shim.call("Wait", wanted, shim_api.WaitResponse, None)
        except Remote as error:
            if error.grpc_code != UNAVAILABLE:
                raise
            return await _after_death(task)
        return api.WaitResponse(exit_status=answer.exit_status, exited_at=answer.exited_at)


async def _after_death(task: Task) -> api.WaitResponse:
    """How the processes of a task ended whose shim has died."""
    await task.gone.wait()
    return api.WaitResponse(exit_status=task.exit_status, exited_at=stamp(task.exited_at))


async def _state(task_id: str, shim: Shim) -> task_types_pb2.Process:
    try:
        wanted = shim_api.StateRequest(id=task_id)
        return _process(await shim.call("State", wanted, shim_api.StateResponse, _STATE_BOUND))
    except HyperError:
        return task_types_pb2.Process(id=task_id, container_id=task_id)


async def _stats(task_id: str, shim: Shim) -> Metric | None:
    try:
        wanted = shim_api.StatsRequest(id=task_id)
        answer = await shim.call("Stats", wanted, shim_api.StatsResponse)
    except HyperError:
        return None
    return Metric(timestamp=stamp(now()), id=task_id, data=answer.stats)


def _process(state: shim_api.StateResponse) -> task_types_pb2.Process:
    return task_types_pb2.Process(
        container_id=state.id,
        id=state.exec_id or state.id,
        pid=state.pid,
        status=state.status,
        stdin=state.stdin,
        stdout=state.stdout,
        stderr=state.stderr,
        terminal=state.terminal,
        exit_status=state.exit_status,
        exited_at=state.exited_at if state.HasField("exited_at") else None,
    )


def _deleted(name: str, answer: shim_api.DeleteResponse) -> api.DeleteResponse:
    return api.DeleteResponse(
        id=name, pid=answer.pid, exit_status=answer.exit_status, exited_at=answer.exited_at
    )
