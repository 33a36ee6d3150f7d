"""Telling containerd what happens: in order, each event once, with patience while it is away."""

import queue
import sys
import threading
import time

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ..api import events_pb2, events_ttrpc_pb2
from ..ttrpc.client import Client
from ..ttrpc.status import CallError, Code

_SERVICE = "containerd.services.events.ttrpc.v1.Events"
_MAX_QUEUED = 4096
_CALL_BOUND = 30.0
_PATIENCE = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
TOPICS: dict[type[Message], str] = {
    events_pb2.TaskCreate: "/tasks/create",
    events_pb2.TaskStart: "/tasks/start",
    events_pb2.TaskExecAdded: "/tasks/exec-added",
    events_pb2.TaskExecStarted: "/tasks/exec-started",
    events_pb2.TaskOOM: "/tasks/oom",
    events_pb2.TaskPaused: "/tasks/paused",
    events_pb2.TaskResumed: "/tasks/resumed",
    events_pb2.TaskExit: "/tasks/exit",
    events_pb2.TaskDelete: "/tasks/delete",
}


class Publisher:
    """Sends events from a thread of its own, over ttrpc, else by `containerd publish`.

    One that containerd does not take for a minute, or when 4096 wait, is dropped and told of in
    the log: a containerd that starts again asks for the state of its tasks anyway. A broken
    connection means that containerd has ended, and with it those who heard the event: it
    is sent again then. One that got no answer in time is not, as it may have been heard.
    """

    def __init__(self, ttrpc_address: str, grpc_address: str, program: str, namespace: str) -> None:
        self._namespace = namespace
        self._grpc_address = grpc_address
        self._program = program
        self._client = Client(ttrpc_address) if ttrpc_address else None
        self._queue: queue.Queue[events_ttrpc_pb2.Envelope | None] = queue.Queue(_MAX_QUEUED)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def publish(self, event: Message) -> None:
        """Send an event after those before it."""
        now = Timestamp()
        now.GetCurrentTime()
        kind = type(event)
        envelope = events_ttrpc_pb2.Envelope(
            timestamp=now,
            namespace=self._namespace,
            topic=TOPICS[kind],
            # Without a prefix, as containerd's own events have it.
            event=AnyMessage(type_url=kind.DESCRIPTOR.full_name, value=event.SerializeToString()),
        )
        try:
            self._queue.put_nowait(envelope)
        except queue.Full:
            _lost(envelope, f"{_MAX_QUEUED} others wait")

    def close(self, timeout: float) -> None:
        """Let what waits go out, in at most `timeout` seconds."""
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        while (envelope := self._queue.get()) is not None:
            self._deliver(envelope)

    def _deliver(self, envelope: events_ttrpc_pb2.Envelope) -> None:
        deadline, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
        while True:
            try:
                self._send(envelope)
                return
            except CallError as error:
                if error.status_code != Code.UNAVAILABLE or time.monotonic() > deadline:
                    _lost(envelope, error.message)
                    return
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _send(self, envelope: events_ttrpc_pb2.Envelope) -> None:
        """Raises CallError."""
        if self._client is None:
            self._run_publish(envelope)
            return
        request = events_ttrpc_pb2.ForwardRequest(envelope=envelope)
        self._client.call(_SERVICE, "Forward", request, Empty, _CALL_BOUND)

    def _run_publish(self, envelope: events_ttrpc_pb2.Envelope) -> None:
        import subprocess

        arguments = ["--topic", envelope.topic, "--namespace", envelope.namespace]
        try:
            done = subprocess.run(
                [self._program, "--address", self._grpc_address, "publish", *arguments],
                input=envelope.event.SerializeToString(),
                capture_output=True,
                timeout=_CALL_BOUND,
            )
        except OSError as error:
            raise CallError(Code.INTERNAL, f"{self._program}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            text = f"{self._program}: no end in {_CALL_BOUND:.0f} s"
            raise CallError(Code.DEADLINE_EXCEEDED, text) from None
        if done.returncode != 0:
            text = done.stderr.decode(errors="replace").strip()
            raise CallError(Code.UNAVAILABLE, f"{self._program}: {text}")


def _lost(envelope: events_ttrpc_pb2.Envelope, why: str) -> None:
    sys.stderr.write(f"event {envelope.topic} is lost: {why}\n")
    sys.stderr.flush()
