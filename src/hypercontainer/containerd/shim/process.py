"""A process of a task as containerd sees it: the container's first one, or one executed later."""

import os
import signal
import threading
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ...system import processes
from ..api import shim_task_pb2, task_types_pb2
from ..ttrpc.connection import Call
from .stdio import Stdio

KILLED = 128 + signal.SIGKILL
_DELIVERY_BOUND = 5.0
_KILL_BOUND = 5.0


class Process:
    """`pid` is that of the host's process which stands for it, 0 before there is one.

    `name` is what the sandbox calls it; `spec` an executed one's OCI process object.
    """

    def __init__(self, exec_id: str, name: str, io: Stdio, spec: dict[str, Any] | None = None):
        self.exec_id = exec_id
        self.name = name
        self.io = io
        self.spec = spec or {}
        self.pid = 0
        self.status: int = task_types_pb2.CREATED
        self.exit_status = 0
        self.exited_at: Timestamp | None = None
        self._started = 0
        self._waiting: list[Call] = []
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.exited_at is not None

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.status in (task_types_pb2.RUNNING, task_types_pb2.PAUSED)

    def stands(self, pid: int) -> None:
        """There is a host's process for it, a child of ours."""
        self.pid = pid
        self._started = processes.start_time(pid) or 0

    def finish(self, exit_status: int) -> None:
        """It has ended: tell those who wait. The first time counts."""
        with self._lock:
            if self.exited_at is not None:
                return
            now = Timestamp()
            now.GetCurrentTime()
            self.exit_status, self.exited_at = exit_status, now
            self.status = task_types_pb2.STOPPED
            waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.answer(self._wait_response())

    def wait(self, call: Call) -> shim_task_pb2.WaitResponse | None:
        """The answer to a Wait; None when `finish` gives it."""
        with self._lock:
            if self.exited_at is None:
                self._waiting = [c for c in self._waiting if not c.over]
                self._waiting.append(call)
                return None
        return self._wait_response()

    def _wait_response(self) -> shim_task_pb2.WaitResponse:
        return shim_task_pb2.WaitResponse(exit_status=self.exit_status, exited_at=self.exited_at)

    def deliver(self) -> None:
        """Wait a moment for the readers of its output, which its host process outlives."""
        if self.pid:
            processes.kill_and_wait(self.pid, self._started, 0, _DELIVERY_BOUND)

    def reap(self) -> None:
        """End its host process, if that still is."""
        if not self.pid:
            return
        processes.kill_and_wait(self.pid, self._started, signal.SIGKILL, _KILL_BOUND)
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return

    def state(self, cid: str, bundle: str) -> shim_task_pb2.StateResponse:
        """The answer to a State."""
        return shim_task_pb2.StateResponse(
            id=cid,
            bundle=bundle,
            pid=self.pid,
            status=task_types_pb2.Status.Name(self.status),
            stdin=self.io.stdin,
            stdout=self.io.stdout,
            stderr=self.io.stderr,
            terminal=self.io.terminal,
            exit_status=self.exit_status,
            exited_at=self.exited_at,
            exec_id=self.exec_id,
        )

    def delete_response(self) -> shim_task_pb2.DeleteResponse:
        """The answer to a Delete."""
        return shim_task_pb2.DeleteResponse(
            pid=self.pid, exit_status=self.exit_status, exited_at=self.exited_at
        )
