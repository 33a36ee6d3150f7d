"""The ttrpc socket to which shims send their events."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from google.protobuf.empty_pb2 import Empty

from ...errors import HyperError, Timeout
from ..api import events_ttrpc_pb2 as api
from ..api.methods import methods_of
from ..ttrpc.connection import Call
from ..ttrpc.server import Endpoint, Server

log = logging.getLogger(__name__)

_SERVICE = api.DESCRIPTOR.services_by_name["Events"]
_BACKLOG = 256
_BOUND = 20.0
_STOP_BOUND = 5.0


class Forwarding:
    """Takes events in a thread of its own, and gives them to `heard` in the loop's."""

    def __init__(self, path: Path, heard: Callable[[api.Envelope], None]) -> None:
        """Listen at `path`, for root only. Raises OSError."""
        self._path = path
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind(str(path))
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
        methods = methods_of(_SERVICE)
        endpoints = {"Forward": Endpoint(methods["Forward"], self._forward)}
        self._server = Server(listener, {_SERVICE.full_name: endpoints})
        self._thread = threading.Thread(target=self._server.serve, daemon=True)
        self._thread.start()

    def _forward(self, request: api.ForwardRequest, _: Call) -> Empty:
        async def tell() -> HyperError | None:
            try:
                self._heard(request.envelope)
            except HyperError as error:
                return error
            return None

        future = asyncio.run_coroutine_threadsafe(tell(), self._loop)
        try:
            error = future.result(_BOUND)
        except TimeoutError:
            raise Timeout("the daemon is too busy to take an event") from None
        if error is not None:
            raise error
        return Empty()

    def close(self) -> None:
        """Take no more."""
        self._server.stop()
        self._thread.join(_STOP_BOUND)
        self._path.unlink(missing_ok=True)
