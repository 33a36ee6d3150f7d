"""The tasks that run: each in its shim, which outlives this daemon, and in its bundle."""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.empty_pb2 import Empty

from ...errors import Conflict, HyperError, NotFound
from ...system.tasks import Tasks
from ..api import events_pb2, task_types_pb2
from ..api import shim_task_pb2 as shim_api
from ..api.events_ttrpc_pb2 import Envelope
from ..shim import address
from .bundles import Bundles
from .exchange import Exchange, unpacked
from .schema import now, stamp
from .shimlog import ShimLog
from .shims import Launcher, Shim, connect

log = logging.getLogger(__name__)

CREATE_BOUND = 240.0
"""Seconds for a VM and its container, on a busy machine without KVM."""
_END_BOUND = 10.0
_LATE = 10.0
_KILLED = 137

Key = tuple[str, str]
"""A namespace and a task's id."""


@dataclass
class Task:
    """A task of ours; `shim` is None until that is up."""

    namespace: str
    id: str
    bundle: Path
    shim: Shim | None = None
    log: ShimLog | None = None
    pid: int = 0
    exited: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    exit_status: int = _KILLED
    exited_at: int = 0
    deleted: bool = False


class TaskStore:
    """All tasks, of all namespaces."""

    def __init__(self, bundles: Bundles, launcher: Launcher, events: Exchange) -> None:
        self._bundles = bundles
        self._launcher = launcher
        self._events = events
        self._tasks: dict[Key, Task] = {}
        self._background = Tasks()

    def has(self, namespace: str, task_id: str) -> bool:
        """Whether a container has a task."""
        return (namespace, task_id) in self._tasks

    def get(self, namespace: str, task_id: str) -> tuple[Task, Shim]:
        """A task that was created, and its shim. Raises NotFound."""
        task = self._tasks.get((namespace, task_id))
        if task is None or task.shim is None:
            raise NotFound(f"task {task_id!r} in namespace {namespace!r}: not found")
        return task, task.shim

    def of(self, namespace: str) -> list[tuple[Task, Shim]]:
        """All tasks of a namespace."""
        return [
            (task, task.shim)
            for task in self._tasks.values()
            if task.namespace == namespace and task.shim is not None
        ]

    async def create(
        self, namespace: str, request: shim_api.CreateTaskRequest, spec: bytes
    ) -> Task:
        """Start a shim and have it make a container; on failure nothing is left.

        `request.bundle` is set here. Raises Conflict, HyperError, and what the shim does.
        """
        key = (namespace, request.id)
        if key in self._tasks:
            raise Conflict(f"task {request.id!r}: already exists")
        bundle = self._bundles.path(*key)
        task = self._tasks[key] = Task(namespace, request.id, bundle)
        try:
            await asyncio.to_thread(self._bundles.make, namespace, request.id, spec)
            task.log = ShimLog(f"{namespace}/{task.id}", bundle)
            shim = await self._launcher.start(namespace, request.id, bundle)
            try:
                request.bundle = str(bundle)
                made = await shim.call("Create", request, shim_api.CreateTaskResponse, CREATE_BOUND)
            except BaseException:
                await self._shut_down(shim, request.id)
                raise
        except BaseException:
            await asyncio.shield(self._background.spawn(self._abandon(task)))
            raise
        task.pid = made.pid
        self._attend(task, shim)
        return task

    async def _abandon(self, task: Task) -> None:
        """Clear up after a task that could not be created."""
        try:
            if task.bundle.exists():
                await self._launcher.clear(task.namespace, task.id, task.bundle)
        except HyperError as error:
            log.warning("%s", error.message)
        await self._forget(task)

    def _attend(self, task: Task, shim: Shim) -> None:
        """Take a task as one that runs, and see to it when its shim dies."""
        task.shim = shim
        self._background.spawn(self._when_lost(task, shim))

    async def _when_lost(self, task: Task, shim: Shim) -> None:
        await asyncio.wait({shim.lost})
        if not task.deleted:
            log.warning("the shim of %s/%s is gone", task.namespace, task.id)
            await self._bury(task)

    async def _bury(self, task: Task) -> None:
        """What is left of a task whose shim died goes, and those who listen hear of it."""
        task.deleted = True
        try:
            answer = await self._launcher.clear(task.namespace, task.id, task.bundle)
            status, moment = answer.exit_status or _KILLED, answer.exited_at.ToNanoseconds()
        except HyperError as error:
            log.warning("%s", error.message)
            status, moment = _KILLED, 0
        moment = moment or now()
        if not task.exited:
            self._publish_exit(task, status, moment)
        self._events.publish(
            task.namespace,
            "/tasks/delete",
            events_pb2.TaskDelete(
                container_id=task.id,
                id=task.id,
                pid=task.pid,
                exit_status=task.exit_status,
                exited_at=stamp(task.exited_at),
            ),
        )
        await self._forget(task)

    def _publish_exit(self, task: Task, status: int, moment: int) -> None:
        event = events_pb2.TaskExit(
            container_id=task.id,
            id=task.id,
            pid=task.pid,
            exit_status=status,
            exited_at=stamp(moment),
        )
        self._note_exit(task.namespace, event)
        self._events.publish(task.namespace, "/tasks/exit", event)

    def heard(self, envelope: Envelope) -> None:
        """Take an event of a shim. Raises BadRequest."""
        self._events.forward(envelope)
        event = unpacked(envelope.event)
        if isinstance(event, events_pb2.TaskExit):
            self._note_exit(envelope.namespace, event)

    def _note_exit(self, namespace: str, event: events_pb2.TaskExit) -> None:
        """Remember that a task's first process has ended."""
        task = self._tasks.get((namespace, event.container_id))
        if task is not None and event.id == task.id:
            task.exited = True
            task.exit_status = event.exit_status
            task.exited_at = event.exited_at.ToNanoseconds()

    async def _forget(self, task: Task) -> None:
        task.deleted = True
        if task.shim is not None:
            await task.shim.close()
        if task.log is not None:
            task.log.close()
        try:
            await asyncio.to_thread(self._bundles.remove, task.bundle)
        except OSError as error:
            log.warning("the bundle of %s/%s stays: %s", task.namespace, task.id, error)
        self._tasks.pop((task.namespace, task.id), None)
        task.gone.set()

    async def delete(self, task: Task, shim: Shim) -> shim_api.DeleteResponse:
        """Remove a task that has ended. Raises what the shim does."""
        request = shim_api.DeleteRequest(id=task.id)
        answer = await shim.call("Delete", request, shim_api.DeleteResponse)
        task.deleted = True
        await asyncio.shield(self._background.spawn(self._end(task, shim)))
        return answer

    async def _end(self, task: Task, shim: Shim) -> None:
        await self._shut_down(shim, task.id)
        await self._forget(task)

    async def _shut_down(self, shim: Shim, task_id: str) -> None:
        """Have a shim end, unless it has other tasks of its pod."""
        try:
            await shim.call("Shutdown", shim_api.ShutdownRequest(id=task_id), Empty, _END_BOUND)
        except HyperError as error:
            log.debug("shutdown of the shim of %s: %s", task_id, error.message)
        others = (task for task in self._tasks.values() if task.id != task_id)
        if not any(task.shim is not None and task.shim.path == shim.path for task in others):
            await shim.end(_END_BOUND)
        await shim.close()

    async def recover(self) -> None:
        """Find the tasks of a daemon that ran before; bury those whose shims did not live on."""
        found = await asyncio.to_thread(lambda: list(self._bundles.all()))
        await asyncio.gather(*(self._recover_one(*key) for key in found))

    async def _recover_one(self, namespace: str, task_id: str) -> None:
        bundle = self._bundles.path(namespace, task_id)
        task = self._tasks[namespace, task_id] = Task(namespace, task_id, bundle)
        task.log = ShimLog(f"{namespace}/{task_id}", bundle)
        try:
            shim = await connect(address.read(str(bundle)))
            request = shim_api.StateRequest(id=task_id)
            state = await shim.call("State", request, shim_api.StateResponse, _END_BOUND)
        except HyperError as error:
            log.warning("task %s/%s did not outlive us: %s", namespace, task_id, error.message)
            await self._bury(task)
            return
        task.pid = state.pid
        self._attend(task, shim)
        if state.status == task_types_pb2.STOPPED:
            self._background.spawn(self._tell_late(task, state))

    async def _tell_late(self, task: Task, state: shim_api.StateResponse) -> None:
        """Tell of an exit that its shim has given up telling, after it had time to."""
        await asyncio.sleep(_LATE)
        if not task.exited and not task.deleted:
            if self._events.has_exit(task.namespace, task.id, state.pid):
                task.exited = True
            else:
                self._publish_exit(task, state.exit_status, state.exited_at.ToNanoseconds())

    async def close(self) -> None:
        """Leave the tasks, which go on."""
        self._background.cancel()
        for task in self._tasks.values():
            task.deleted = True
            if task.shim is not None:
                await task.shim.close()
