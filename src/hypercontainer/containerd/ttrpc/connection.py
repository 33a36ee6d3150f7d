"""The server's end of one connection, and the calls on it."""

import socket
import threading
import time
from collections.abc import Callable

from google.protobuf.message import DecodeError, Message

from ...errors import HyperError
from ..api import ttrpc_pb2
from .frames import MAX_PAYLOAD, REQUEST, RESPONSE, Frame, FrameReader, pack
from .status import CallError, Code, code_of

_CHUNK = 1 << 16
_MAX_WAITING = 4 * MAX_PAYLOAD
_MAX_CALLS = 1024


class Call:
    """One request until it is answered; safe to answer from any thread, the first answer counts."""

    def __init__(self, connection: "Connection", stream: int, request: ttrpc_pb2.Request) -> None:
        self.service = request.service
        self.method = request.method
        self.payload = request.payload
        nanoseconds = request.timeout_nano
        self.deadline = time.monotonic() + nanoseconds / 1e9 if nanoseconds > 0 else None
        self._connection = connection
        self.stream = stream
        self._lock = threading.Lock()
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it was answered, or nobody waits for the answer any more."""
        return self._over

    def answer(self, message: Message) -> None:
        """Send what was asked for."""
        data = message.SerializeToString()
        self._end(ttrpc_pb2.Response(status=ttrpc_pb2.Status(), payload=data))

    def fail(self, error: HyperError) -> None:
        """Send why there is no answer."""
        status = ttrpc_pb2.Status(code=code_of(error), message=error.message)
        self._end(ttrpc_pb2.Response(status=status))

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self._over = True

    def _end(self, response: ttrpc_pb2.Response) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
        data = response.SerializeToString()
        if len(data) > MAX_PAYLOAD:
            text = f"the answer of {len(data)} bytes is longer than {MAX_PAYLOAD}"
            status = ttrpc_pb2.Status(code=Code.RESOURCE_EXHAUSTED, message=text)
            data = ttrpc_pb2.Response(status=status).SerializeToString()
        self._connection.end(self, pack(self.stream, RESPONSE, data))


class Connection:
    """Reads frames and writes answers without blocking, for the thread of its server.

    `begin` is called with each request; `wake` from any thread when there is something to write.
    """

    def __init__(
        self, sock: socket.socket, begin: Callable[[Call], None], wake: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.calls: dict[int, Call] = {}
        self._begin = begin
        self._wake = wake
        self._reader = FrameReader()
        self._lock = threading.Lock()
        self._answers = bytearray()
        self._last_stream = 0

    @property
    def has_answers(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._answers)

    def read(self) -> bool:
        """Take what has come; returns False when the connection is over."""
        try:
            data = self.sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not data:
            return False
        for frame in self._reader.feed(data):
            self._take(frame)
        # A peer that asks and does not read what it is told has no claim to our memory.
        return len(self._answers) <= _MAX_WAITING

    def _take(self, frame: Frame) -> None:
        if frame.kind != REQUEST:
            return
        try:
            self._check(frame)
            call = Call(self, frame.stream, self._parse(frame))
        except CallError as error:
            Call(self, frame.stream, ttrpc_pb2.Request()).fail(error)
            return
        self.calls[frame.stream] = call
        self._begin(call)

    def _check(self, frame: Frame) -> None:
        if frame.stream % 2 == 0:
            raise CallError(Code.INVALID_ARGUMENT, f"stream {frame.stream}: an odd one is expected")
        if frame.stream <= self._last_stream:
            raise CallError(Code.INVALID_ARGUMENT, f"stream {frame.stream} was used before")
        self._last_stream = frame.stream
        if len(self.calls) >= _MAX_CALLS:
            raise CallError(Code.RESOURCE_EXHAUSTED, f"more than {_MAX_CALLS} calls at once")

    def _parse(self, frame: Frame) -> ttrpc_pb2.Request:
        if frame.payload is None:
            text = f"a message of {frame.length} bytes is longer than {MAX_PAYLOAD}"
            raise CallError(Code.RESOURCE_EXHAUSTED, text)
        try:
            return ttrpc_pb2.Request.FromString(frame.payload)
        except DecodeError:
            raise CallError(Code.INVALID_ARGUMENT, "the request is not a protobuf") from None

    def end(self, call: Call, frame: bytes) -> None:
        """Take the answer of a call."""
        with self._lock:
            if self.calls.get(call.stream) is call:
                del self.calls[call.stream]
            self._answers += frame
        self._wake()

    def write(self) -> bool:
        """Write what the peer takes; returns False when the connection is over."""
        try:
            with self._lock:
                while self._answers:
                    del self._answers[: self.sock.send(self._answers[:_CHUNK])]
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it, and with it its calls."""
        self.sock.close()
        for call in list(self.calls.values()):
            call.cancel()
        self.calls.clear()
