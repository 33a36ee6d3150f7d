"""A ttrpc client: one connection, one call at a time."""

import contextlib
import socket
import threading
import time
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ..api import ttrpc_pb2
from .frames import REQUEST, RESPONSE, Frame, FrameReader, pack
from .messages import request_of, result_of
from .status import CallError, Code

_CHUNK = 1 << 16
_MAX_STREAM = (1 << 31) - 1
M = TypeVar("M", bound=Message)


class Client:
    """Calls the server at a socket's path; connects when it is first needed, and again after
    that was lost. Safe for use by several threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock: socket.socket | None = None
        self._reader = FrameReader()
        self._stream = 1
        self._lock = threading.Lock()

    def call(
        self, service: str, method: str, request: Message, answer: type[M], timeout: float
    ) -> M:
        """One call, of at most `timeout` seconds.

        Raises CallError with the server's code, or UNAVAILABLE or DEADLINE_EXCEEDED.
        """
        deadline = time.monotonic() + timeout
        data = request_of(service, method, request, timeout)
        with self._lock:
            try:
                payload = self._exchange(data, deadline)
                response = ttrpc_pb2.Response.FromString(payload)
            except TimeoutError:
                self.close()
                text = f"{self._path}: no answer in {timeout:g} s"
                raise CallError(Code.DEADLINE_EXCEEDED, text) from None
            except (OSError, DecodeError) as error:
                self.close()
                raise CallError(Code.UNAVAILABLE, f"{self._path}: {error}") from None
        return result_of(response, answer)

    def _exchange(self, request: bytes, deadline: float) -> bytes:
        """Raises TimeoutError and OSError."""
        sock = self._connected(deadline)
        stream, self._stream = self._stream, self._stream + 2
        sock.settimeout(_left(deadline))
        sock.sendall(pack(stream, REQUEST, request))
        while True:
            sock.settimeout(_left(deadline))
            data = sock.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the connection was closed")
            for frame in self._reader.feed(data):
                if frame.stream == stream and frame.kind == RESPONSE:
                    return _payload(frame)

    def _connected(self, deadline: float) -> socket.socket:
        if self._sock is None or self._stream > _MAX_STREAM:
            self.close()
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock.settimeout(_left(deadline))
            self._sock.connect(self._path)
            self._stream, self._reader = 1, FrameReader()
        return self._sock

    def close(self) -> None:
        """Let the connection go."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.close()
            self._sock = None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _payload(frame: Frame) -> bytes:
    if frame.payload is None:
        raise ConnectionError(f"an answer of {frame.length} bytes")
    return frame.payload
