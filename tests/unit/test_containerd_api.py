"""containerd's messages: the committed modules, and that they are compatible on the wire."""

from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from hypercontainer.containerd.api import (
    events_pb2,
    generate,
    shim_task_pb2,
    task_types_pb2,
    types_pb2,
)
from hypercontainer.containerd.api.methods import methods_of


def test_the_modules_are_what_the_protos_give(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.rglob("*_pb2.py*")}
    committed = {path.name: path.read_bytes() for path in generate.HERE.glob("*_pb2.py*")}
    assert made == committed


def test_bytes_of_a_create_request() -> None:
    """As containerd 1.6's own code writes them."""
    request = shim_task_pb2.CreateTaskRequest(
        id="a",
        bundle="/b",
        rootfs=[types_pb2.Mount(type="bind", source="/s", options=["rbind", "ro"])],
        terminal=True,
        stdout="/o",
    )
    mount = b"\x0a\x04bind\x12\x02/s\x22\x05rbind\x22\x02ro"
    written = b"\x0a\x01a\x12\x02/b\x1a" + bytes([len(mount)]) + mount + b"\x20\x01\x32\x02/o"
    assert request.SerializeToString() == written


def test_bytes_of_a_state_and_an_exit() -> None:
    state = shim_task_pb2.StateResponse(pid=300, status=task_types_pb2.STOPPED, exec_id="e")
    assert state.SerializeToString() == b"\x18\xac\x02\x20\x03\x5a\x01e"
    exit_event = events_pb2.TaskExit(
        container_id="c", id="e", pid=7, exit_status=137, exited_at=Timestamp(seconds=1)
    )
    assert (
        exit_event.SerializeToString() == b"\x0a\x01c\x12\x01e\x18\x07\x20\x89\x01\x2a\x02\x08\x01"
    )


def test_methods_of_the_shim() -> None:
    methods = methods_of(shim_task_pb2.DESCRIPTOR.services_by_name["Task"])
    assert len(methods) == 17
    assert methods["Exec"].request is shim_task_pb2.ExecProcessRequest
    assert methods["Exec"].response.DESCRIPTOR.full_name == "google.protobuf.Empty"
    assert not any(m.streams_requests or m.streams_responses for m in methods.values())
