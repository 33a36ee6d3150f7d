"""ttrpc: frames, calls, their ends and limits, over a real socket."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from hypercontainer.containerd.api import shim_task_pb2, ttrpc_pb2
from hypercontainer.containerd.api.methods import methods_of
from hypercontainer.containerd.ttrpc.client import Client
from hypercontainer.containerd.ttrpc.connection import Call
from hypercontainer.containerd.ttrpc.frames import MAX_PAYLOAD, REQUEST, Frame, FrameReader, pack
from hypercontainer.containerd.ttrpc.server import Endpoint, Server
from hypercontainer.containerd.ttrpc.status import CallError, Code
from hypercontainer.errors import NotFound

SERVICE = "containerd.task.v2.Task"
METHODS = methods_of(shim_task_pb2.DESCRIPTOR.services_by_name["Task"])
BOUND = 60.0


class Service:
    """Answers State at once and Wait when told to; fails in all ways."""

    def __init__(self) -> None:
        self.waiting: list[Call] = []
        self.asked = threading.Semaphore(0)

    def state(self, request: shim_task_pb2.StateRequest, call: Call) -> shim_task_pb2.StateResponse:
        if request.id == "missing":
            raise NotFound("no such container: missing")
        if request.id == "bug":
            raise KeyError("bug")
        size = int(request.exec_id or 0)
        return shim_task_pb2.StateResponse(id=request.id, bundle="x" * size)

    def wait(self, request: shim_task_pb2.WaitRequest, call: Call) -> None:
        self.waiting.append(call)
        self.asked.release()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def path(tmp_path: Path, service: Service) -> Iterator[str]:
    name = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(name)
    listener.listen(256)
    endpoints = {
        "State": Endpoint(METHODS["State"], service.state),
        "Wait": Endpoint(METHODS["Wait"], service.wait),
    }
    server = Server(listener, {SERVICE: endpoints})
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield name
    finally:
        server.stop()
        thread.join(BOUND)
        assert not thread.is_alive()


def state(path: str, cid: str = "a", exec_id: str = "") -> shim_task_pb2.StateResponse:
    request = shim_task_pb2.StateRequest(id=cid, exec_id=exec_id)
    client = Client(path)
    try:
        return client.call(SERVICE, "State", request, shim_task_pb2.StateResponse, BOUND)
    finally:
        client.close()


class Raw:
    """A connection on which anything can be said."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(BOUND)
        self.sock.connect(path)
        self._reader = FrameReader()
        self._frames: list[Frame] = []

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(self, stream: int, method: str, payload: bytes, timeout: float = 0) -> None:
        message = ttrpc_pb2.Request(
            service=SERVICE, method=method, payload=payload, timeout_nano=int(timeout * 1e9)
        )
        self.send(pack(stream, REQUEST, message.SerializeToString()))

    def answer(self) -> tuple[int, ttrpc_pb2.Response]:
        while not self._frames:
            data = self.sock.recv(65536)
            assert data, "the connection was closed"
            self._frames = self._reader.feed(data)
        frame = self._frames.pop(0)
        assert frame.payload is not None
        return frame.stream, ttrpc_pb2.Response.FromString(frame.payload)

    def code(self) -> int:
        return self.answer()[1].status.code


def test_frames_come_in_any_pieces() -> None:
    data = pack(1, 1, b"abc") + pack(3, 2, b"") + pack(5, 1, b"z" * 100)
    for size in (1, 2, 7, 1000):
        reader = FrameReader()
        frames = [f for i in range(0, len(data), size) for f in reader.feed(data[i : i + size])]
        assert frames == [Frame(3, 1, 1, b"abc"), Frame(0, 3, 2, b""), Frame(100, 5, 1, b"z" * 100)]


def test_a_frame_that_is_too_long_is_passed_over() -> None:
    long = struct.pack(">IIBB", MAX_PAYLOAD + 5, 7, 1, 0) + b"x" * (MAX_PAYLOAD + 5)
    data = long + pack(9, 1, b"next")
    for size in (70000, len(data)):
        reader = FrameReader()
        frames = [f for i in range(0, len(data), size) for f in reader.feed(data[i : i + size])]
        assert frames == [Frame(MAX_PAYLOAD + 5, 7, 1, None), Frame(4, 9, 1, b"next")]


def test_calls_and_their_errors(path: str) -> None:
    assert state(path).id == "a"
    for cid, code in (("missing", Code.NOT_FOUND), ("bug", Code.INTERNAL)):
        with pytest.raises(CallError) as failed:
            state(path, cid)
        assert failed.value.status_code == code
    client = Client(path)
    for service, method in ((SERVICE, "Nothing"), ("no.Service", "State")):
        with pytest.raises(CallError) as failed:
            client.call(service, method, Empty(), Empty, BOUND)
        assert failed.value.status_code == Code.UNIMPLEMENTED
        assert f"{service}/{method}" in failed.value.message
    client.close()


def test_an_answer_that_is_too_long(path: str) -> None:
    assert len(state(path, exec_id="4000000").bundle) == 4000000
    with pytest.raises(CallError) as failed:
        state(path, exec_id=str(MAX_PAYLOAD))
    assert failed.value.status_code == Code.RESOURCE_EXHAUSTED


def test_garbage_is_answered_and_the_connection_goes_on(path: str) -> None:
    raw = Raw(path)
    raw.send(pack(1, REQUEST, b"\xff\xff\xff garbage"))
    assert raw.code() == Code.INVALID_ARGUMENT
    raw.request(3, "State", b"\xff\xff\xff garbage")
    assert raw.code() == Code.INVALID_ARGUMENT
    raw.request(4, "State", b"")
    assert raw.code() == Code.INVALID_ARGUMENT
    raw.request(3, "State", b"")
    assert raw.code() == Code.INVALID_ARGUMENT
    raw.send(pack(9, 2, b"an answer nobody wants") + pack(9, 99, b"an unknown type"))
    raw.request(11, "State", b"")
    assert raw.answer()[0] == 11


def test_a_frame_of_a_gigabyte(path: str) -> None:
    raw = Raw(path)
    raw.send(struct.pack(">IIBB", 1 << 30, 1, REQUEST, 0) + b"x" * 100000)
    stream, response = raw.answer()
    assert (stream, response.status.code) == (1, Code.RESOURCE_EXHAUSTED)
    assert "1073741824" in response.status.message
    raw.sock.close()
    assert state(path).id == "a"


def test_a_time_out(path: str, service: Service) -> None:
    raw = Raw(path)
    raw.request(1, "Wait", b"", timeout=0.2)
    raw.request(3, "State", b"")
    assert raw.answer()[0] == 3
    stream, response = raw.answer()
    assert (stream, response.status.code) == (1, Code.DEADLINE_EXCEEDED)
    assert service.waiting[0].over
    service.waiting[0].answer(shim_task_pb2.WaitResponse())
    raw.request(5, "State", b"")
    assert raw.answer()[0] == 5


def test_a_caller_that_leaves(path: str, service: Service) -> None:
    raw = Raw(path)
    raw.request(1, "Wait", b"")
    assert service.asked.acquire(timeout=BOUND)
    raw.sock.close()
    deadline = time.monotonic() + BOUND
    while not service.waiting[0].over:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    service.waiting[0].answer(shim_task_pb2.WaitResponse())
    assert state(path).id == "a"


def test_later_answers_and_200_connections(path: str, service: Service) -> None:
    connections = [Raw(path) for _ in range(200)]
    for raw in connections:
        raw.request(1, "Wait", b"")
        raw.request(3, "State", b"")
    assert all(raw.answer()[0] == 3 for raw in connections)
    for _ in connections:
        assert service.asked.acquire(timeout=BOUND)
    for call in service.waiting:
        call.answer(shim_task_pb2.WaitResponse(exit_status=5))
    for raw in connections:
        stream, response = raw.answer()
        answer = shim_task_pb2.WaitResponse.FromString(response.payload)
        assert (stream, answer.exit_status) == (1, 5)
        raw.sock.close()


def test_a_peer_that_reads_nothing_is_dropped(path: str) -> None:
    raw = Raw(path)
    payload = shim_task_pb2.StateRequest(id="a", exec_id="4000000").SerializeToString()
    with pytest.raises(OSError):
        for stream in range(1, 2001, 2):
            raw.request(stream, "State", payload)
            if stream > 20:
                time.sleep(0.01)
    assert state(path).id == "a"


def test_the_client_without_a_server(tmp_path: Path) -> None:
    with pytest.raises(CallError) as failed:
        state(str(tmp_path / "none"))
    assert failed.value.status_code == Code.UNAVAILABLE


def test_the_clients_own_time_out(path: str) -> None:
    client = Client(path)
    with pytest.raises(CallError) as failed:
        client.call(SERVICE, "Wait", Empty(), Empty, 0.1)
    assert failed.value.status_code == Code.DEADLINE_EXCEEDED
    assert state(path).id == "a"
