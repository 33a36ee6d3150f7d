"""A ttrpc server: one thread for all connections, and one for each call while it is worked on."""

import contextlib
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from ...errors import HyperError
from ..api.methods import Method
from .connection import Call, Connection
from .status import CallError, Code

_MAX_CONNECTIONS = 1024
_MAX_WORKERS = 512
_STACK = 512 << 10
_ACCEPT_PAUSE = 0.1
_DRAIN_BOUND = 2.0

Handler = Callable[[Any, Call], Message | None]


class Endpoint(NamedTuple):
    """A method and what carries it out.

    The handler gets the request and the call. It returns the answer; or None, and answers
    the call itself, later. It raises HyperError.
    """

    method: Method
    handler: Handler


class Server:
    """Serves the methods of services, `{"package.Service": {"Method": Endpoint}}`."""

    def __init__(
        self, listener: socket.socket, services: Mapping[str, Mapping[str, Endpoint]]
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._services = services
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._workers = threading.Semaphore(_MAX_WORKERS)
        self._stopping = False
        self._accept_after = 0.0

    def serve(self) -> None:
        """Serve until `stop`."""
        threading.stack_size(_STACK)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain_waker)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        while not self._stopping:
            self._turn()
        self._listener.close()
        deadline = time.monotonic() + _DRAIN_BOUND
        while any(c.has_answers for c in self._connections) and time.monotonic() < deadline:
            self._turn()
        for connection in list(self._connections):
            self._end(connection)
        self._selector.close()

    def stop(self) -> None:
        """Have `serve` return once the answers given so far are out. Safe from any thread."""
        self._stopping = True
        self._wake()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            if isinstance(key.data, Connection):
                if key.data in self._connections and not key.data.read():
                    self._end(key.data)
            else:
                key.data()
        self._expire()
        for connection in list(self._connections):
            self._write(connection)

    def _write(self, connection: Connection) -> None:
        if connection.has_answers and not connection.write():
            self._end(connection)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.has_answers else 0)
        if self._selector.get_key(connection.sock).events != wanted:
            self._selector.modify(connection.sock, wanted, connection)

    def _patience(self) -> float | None:
        """Seconds until the first call is late, None when none can be."""
        if self._stopping:
            return _ACCEPT_PAUSE
        calls = (call for c in self._connections for call in list(c.calls.values()))
        deadlines = [call.deadline for call in calls if call.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _expire(self) -> None:
        now = time.monotonic()
        for connection in self._connections:
            for call in list(connection.calls.values()):
                if call.deadline is not None and call.deadline <= now:
                    text = f"{call.method}: not done in the time that the caller allowed"
                    call.fail(CallError(Code.DEADLINE_EXCEEDED, text))

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            # Out of descriptors: those who wait are served when others leave.
            sys.stderr.write(f"accept: {error.strerror}\n")
            time.sleep(_ACCEPT_PAUSE)
            return
        if len(self._connections) >= _MAX_CONNECTIONS:
            sock.close()
            return
        connection = Connection(sock, self._begin, self._wake)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _end(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.close()

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            return

    def _drain_waker(self) -> None:
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            return

    def _begin(self, call: Call) -> None:
        endpoint = self._services.get(call.service, {}).get(call.method)
        if endpoint is None:
            text = f"{call.service}/{call.method} is not served here"
            call.fail(CallError(Code.UNIMPLEMENTED, text))
            return
        try:
            request = endpoint.method.request.FromString(call.payload)
        except DecodeError:
            text = f"{call.method}: the request is not a {endpoint.method.request.__name__}"
            call.fail(CallError(Code.INVALID_ARGUMENT, text))
            return
        if not self._workers.acquire(blocking=False):
            text = f"{call.method}: more than {_MAX_WORKERS} calls are worked on"
            call.fail(CallError(Code.RESOURCE_EXHAUSTED, text))
            return
        try:
            threading.Thread(target=self._work, args=(endpoint, request, call), daemon=True).start()
        except RuntimeError:
            self._workers.release()
            call.fail(CallError(Code.RESOURCE_EXHAUSTED, f"{call.method}: no thread for it"))

    def _work(self, endpoint: Endpoint, request: Message, call: Call) -> None:
        try:
            answer = endpoint.handler(request, call)
            if answer is not None:
                call.answer(answer)
        except HyperError as error:
            call.fail(error)
        except Exception as error:
            what = str(error) if isinstance(error, OSError) else f"internal error: {error!r}"
            call.fail(CallError(Code.INTERNAL, f"{call.method}: {what}"))
            with contextlib.suppress(OSError):
                traceback.print_exc()
        finally:
            self._workers.release()
