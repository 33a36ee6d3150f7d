"""The client of ttrpc for asyncio, against the server that shims have."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from hypercontainer.containerd.api import shim_task_pb2 as api
from hypercontainer.containerd.api.methods import methods_of
from hypercontainer.containerd.ttrpc.aio import AsyncClient
from hypercontainer.containerd.ttrpc.connection import Call
from hypercontainer.containerd.ttrpc.server import Endpoint, Server
from hypercontainer.containerd.ttrpc.status import CallError, Code
from hypercontainer.errors import NotFound

SERVICE = "containerd.task.v2.Task"
METHODS = methods_of(api.DESCRIPTOR.services_by_name["Task"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A server of which one call waits for the other."""
    released = threading.Event()

    def wait(request: api.WaitRequest, call: Call) -> api.WaitResponse:
        if request.id == "none":
            raise NotFound("no such task")
        released.wait(10)
        return api.WaitResponse(exit_status=7)

    def kill(request: api.KillRequest, call: Call) -> Empty:
        released.set()
        return Empty()

    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    endpoints = {"Wait": Endpoint(METHODS["Wait"], wait), "Kill": Endpoint(METHODS["Kill"], kill)}
    serving = Server(listener, {SERVICE: endpoints})
    thread = threading.Thread(target=serving.serve)
    thread.start()
    yield path
    released.set()
    serving.stop()
    thread.join(10)


async def test_calls_at_once_and_errors(server: Path) -> None:
    client = AsyncClient(str(server))
    await client.connect(5)
    waiting = asyncio.create_task(
        client.call(SERVICE, "Wait", api.WaitRequest(), api.WaitResponse, None)
    )
    await asyncio.sleep(0)
    await client.call(SERVICE, "Kill", api.KillRequest(), Empty, 5)
    assert (await waiting).exit_status == 7
    with pytest.raises(CallError) as caught:
        await client.call(SERVICE, "Wait", api.WaitRequest(id="none"), api.WaitResponse, 5)
    assert (caught.value.status_code, caught.value.message) == (Code.NOT_FOUND, "no such task")
    with pytest.raises(CallError) as caught:
        await client.call(SERVICE, "Fly", Empty(), Empty, 5)
    assert caught.value.status_code == Code.UNIMPLEMENTED
    await client.close()
    with pytest.raises(CallError) as caught:
        await client.call(SERVICE, "Kill", api.KillRequest(), Empty, 5)
    assert caught.value.status_code == Code.UNAVAILABLE


async def test_a_server_that_goes_or_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await asyncio.sleep(0.2)
        writer.close()

    with pytest.raises(CallError) as caught:
        await AsyncClient(str(path)).connect(5)
    assert caught.value.status_code == Code.UNAVAILABLE
    async with await asyncio.start_unix_server(hang, str(path)):
        client = AsyncClient(str(path))
        await client.connect(5)
        with pytest.raises(CallError) as caught:
            await client.call(SERVICE, "Kill", api.KillRequest(), Empty, 0.05)
        assert caught.value.status_code == Code.DEADLINE_EXCEEDED
        with pytest.raises(CallError) as caught:
            await client.call(SERVICE, "Kill", api.KillRequest(), Empty, 10)
        assert caught.value.status_code == Code.UNAVAILABLE
        assert client.lost.done()
        await client.close()
