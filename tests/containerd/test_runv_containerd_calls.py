"""runv-containerd's answers to what no good client sends: a status code, and life goes on."""

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from hypercontainer.containerd.api import (
    containers_pb2,
    content_pb2,
    diff_pb2,
    events_service_pb2,
    health_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    namespaces_pb2,
    snapshots_pb2,
    tasks_pb2,
    types_pb2,
    version_pb2,
)
from hypercontainer.containerd.api.methods import methods_of
from tests.containerd.runv_containerd import RunvContainerd, running

NAMESPACE = (("containerd-namespace", "default"),)
_BOUND = 30.0
_MODULES = (
    *(containers_pb2, content_pb2, diff_pb2, events_service_pb2, health_pb2, images_pb2),
    *(introspection_pb2, leases_pb2, namespaces_pb2, snapshots_pb2, tasks_pb2, version_pb2),
)
SERVICES = [s for module in _MODULES for s in module.DESCRIPTOR.services_by_name.values()]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunvContainerd]:
    """One for all tests here."""
    with running(tmp_path_factory.mktemp("daemon")) as one:
        yield one


@pytest.fixture
def channel(daemon: RunvContainerd) -> Iterator[grpc.Channel]:
    """A connection; afterwards the daemon has to answer still."""
    with daemon.channel() as channel:
        yield channel
        answer = _call(channel, "containerd.services.version.v1.Version/Version", Empty())
        assert version_pb2.VersionResponse.FromString(answer).revision == "runv-containerd"
    assert daemon.process is not None
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.log.read_text()


def _call(
    channel: grpc.Channel,
    path: str,
    request: Message | bytes,
    metadata: tuple[tuple[str, str], ...] = NAMESPACE,
) -> bytes:
    """The answer, as bytes. Raises grpc.RpcError."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    method: Any = channel.unary_unary(f"/{path}")
    answer: bytes = method(data, timeout=_BOUND, metadata=metadata)
    return answer


def _refused(run: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        run()
    error = caught.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details()


def test_what_there_is_not(channel: grpc.Channel) -> None:
    code, text = _refused(
        lambda: _call(channel, "containerd.services.transfer.v1.Transfer/Do", b"")
    )
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "containerd.services.transfer.v1.Transfer" in text
    code, text = _refused(lambda: _call(channel, "containerd.services.tasks.v1.Tasks/Fly", b""))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Fly" in text
    assert "containerd.services.tasks.v1.Tasks" in text
    code, _ = _refused(lambda: _call(channel, "nonsense", b""))
    assert code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN)


@pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.full_name)
def test_garbage_and_nothing_for_every_method(channel: grpc.Channel, service: Any) -> None:
    for name, method in methods_of(service).items():
        path = f"{service.full_name}/{name}"
        if method.streams_responses:
            continue
        if method.request.DESCRIPTOR.fields:
            code, _ = _refused(partial(_call, channel, path, b"\xff\xff\xff"))
            assert code is grpc.StatusCode.INVALID_ARGUMENT, path
        try:
            _call(channel, path, b"", metadata=())
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            assert error.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), path


BAD = [
    ("tasks.v1.Tasks/Create", tasks_pb2.CreateTaskRequest(container_id="none"), "NOT_FOUND"),
    ("tasks.v1.Tasks/Create", tasks_pb2.CreateTaskRequest(container_id="../x"), "INVALID_ARGUMENT"),
    ("tasks.v1.Tasks/Start", tasks_pb2.StartRequest(container_id="none"), "NOT_FOUND"),
    ("tasks.v1.Tasks/Wait", tasks_pb2.WaitRequest(container_id="none"), "NOT_FOUND"),
    ("tasks.v1.Tasks/Checkpoint", tasks_pb2.CheckpointTaskRequest(container_id="n"), "NOT_FOUND"),
    (
        "containers.v1.Containers/Create",
        containers_pb2.CreateContainerRequest(container=containers_pb2.Container(id="a/b")),
        "INVALID_ARGUMENT",
    ),
    (
        "containers.v1.Containers/List",
        containers_pb2.ListContainersRequest(filters=["id==="]),
        "INVALID_ARGUMENT",
    ),
    ("content.v1.Content/Info", content_pb2.InfoRequest(digest="sha256:x"), "INVALID_ARGUMENT"),
    (
        "content.v1.Content/Info",
        content_pb2.InfoRequest(digest=f"sha256:{'0' * 64}"),
        "NOT_FOUND",
    ),
    ("content.v1.Content/Abort", content_pb2.AbortRequest(ref="none"), "NOT_FOUND"),
    (
        "snapshots.v1.Snapshots/Prepare",
        snapshots_pb2.PrepareSnapshotRequest(snapshotter="zfs", key="a"),
        "INVALID_ARGUMENT",
    ),
    (
        "snapshots.v1.Snapshots/Prepare",
        snapshots_pb2.PrepareSnapshotRequest(snapshotter="overlayfs", key="a", parent="none"),
        "NOT_FOUND",
    ),
    (
        "diff.v1.Diff/Apply",
        diff_pb2.ApplyRequest(diff=types_pb2.Descriptor(digest=f"sha256:{'0' * 64}")),
        "NOT_FOUND",
    ),
    (
        "events.v1.Events/Publish",
        events_service_pb2.PublishRequest(topic="no topic"),
        "INVALID_ARGUMENT",
    ),
    ("leases.v1.Leases/Delete", leases_pb2.DeleteRequest(id="none"), "NOT_FOUND"),
    (
        "leases.v1.Leases/Create",
        leases_pb2.CreateRequest(id="a", labels={"containerd.io/gc.expire": "soon"}),
        "INVALID_ARGUMENT",
    ),
    (
        "namespaces.v1.Namespaces/Create",
        namespaces_pb2.CreateNamespaceRequest(namespace=namespaces_pb2.Namespace(name="..")),
        "INVALID_ARGUMENT",
    ),
    ("images.v1.Images/Get", images_pb2.GetImageRequest(name="none"), "NOT_FOUND"),
]


@pytest.mark.parametrize(("path", "request_", "expected"), BAD)
def test_bad_requests(channel: grpc.Channel, path: str, request_: Message, expected: str) -> None:
    code, text = _refused(lambda: _call(channel, f"containerd.services.{path}", request_))
    assert code.name == expected, text
    assert text


def test_no_namespace_and_a_bad_one(channel: grpc.Channel) -> None:
    path = "containerd.services.containers.v1.Containers/List"
    code, _ = _refused(lambda: _call(channel, path, b"", metadata=()))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    bad = (("containerd-namespace", "../etc"),)
    code, _ = _refused(lambda: _call(channel, path, b"", metadata=bad))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_that_is_too_long(channel: grpc.Channel) -> None:
    path = "containerd.services.images.v1.Images/Get"
    code, _ = _refused(lambda: _call(channel, path, bytes(17 << 20)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_writing_content_wrongly(channel: grpc.Channel) -> None:
    action = content_pb2.WriteAction
    method: Any = channel.stream_stream("/containerd.services.content.v1.Content/Write")

    def write(*requests: content_pb2.WriteContentRequest) -> list[bytes]:
        data = iter([one.SerializeToString() for one in requests])
        return list(method(data, timeout=_BOUND, metadata=NAMESPACE))

    one = content_pb2.WriteContentRequest(action=action.WRITE, ref="r", data=b"abc")
    wrong = content_pb2.WriteContentRequest(action=action.WRITE, ref="r", data=b"d", offset=9)
    code, _ = _refused(lambda: write(one, wrong))
    assert code is grpc.StatusCode.OUT_OF_RANGE
    commit = content_pb2.WriteContentRequest(
        action=action.COMMIT, offset=3, expected=f"sha256:{'1' * 64}"
    )
    code, text = _refused(lambda: write(one, commit))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "digest" in text
    code, _ = _refused(lambda: write(content_pb2.WriteContentRequest(action=action.STAT)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    held = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield one.SerializeToString()
        held.wait(_BOUND)

    first = method(slowly(), timeout=_BOUND, metadata=NAMESPACE)
    next(iter(first))
    code, text = _refused(lambda: write(one))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "locked" in text
    held.set()
    list(first)
    good = content_pb2.WriteContentRequest(action=action.COMMIT, offset=3, total=3)
    answers = [content_pb2.WriteContentResponse.FromString(a) for a in write(one, good)]
    assert answers[-1].digest.startswith("sha256:ba7816bf")
    code, _ = _refused(lambda: write(one, good))
    assert code is grpc.StatusCode.ALREADY_EXISTS


def test_two_hundred_connections_and_garbage_on_them(daemon: RunvContainerd) -> None:
    raw = []
    for number in range(200):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(_BOUND)
        sock.connect(str(daemon.socket))
        if number % 2:
            sock.sendall(b"\xff" * 100 + b"GET / HTTP/1.1\r\n\r\n")
        raw.append(sock)
    try:
        results: list[bytes] = []

        def ask() -> None:
            with daemon.channel() as one:
                path = "grpc.health.v1.Health/Check"
                results.append(_call(one, path, health_pb2.HealthCheckRequest()))

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_BOUND)
        answers = {health_pb2.HealthCheckResponse.FromString(data).status for data in results}
        assert len(results) == 40
        assert answers == {health_pb2.HealthCheckResponse.SERVING}
    finally:
        for sock in raw:
            sock.close()


def test_events_from_a_time_on(channel: grpc.Channel, daemon: RunvContainerd) -> None:
    name = namespaces_pb2.Namespace(name="timed", labels={"a": "b"})
    path = "containerd.services.namespaces.v1.Namespaces"
    _call(channel, f"{path}/Create", namespaces_pb2.CreateNamespaceRequest(namespace=name))
    daemon.end()
    daemon.start()
    with daemon.channel() as again:
        _call(again, f"{path}/Delete", namespaces_pb2.DeleteNamespaceRequest(name="timed"))
        subscribe: Any = again.unary_stream("/containerd.services.events.v1.Events/Subscribe")
        request = events_service_pb2.SubscribeRequest(
            filters=["namespace==timed,since==2020-01-01T00:00:00Z,until==2099-01-01T00:00:00Z"]
        )
        stream = subscribe(request.SerializeToString(), timeout=_BOUND)
        topics = [next(stream), next(stream)]
        stream.cancel()
    assert b"/namespaces/create" in topics[0]
    assert b"/namespaces/delete" in topics[1]
