"""What a shim answers to wrong requests: the proper status, and it goes on."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from hypercontainer.containerd.api import runtime_options_pb2, types_pb2
from hypercontainer.containerd.api import shim_task_pb2 as pb
from hypercontainer.containerd.ttrpc.frames import REQUEST, pack
from hypercontainer.containerd.ttrpc.status import CallError, Code
from tests.containerd.shim_client import OwnBundle, Shim
from tests.engines.commands import BOUND
from tests.engines.containerd import Containerd

PROCESS = b'{"args": ["sleep", "1000"], "cwd": "/", "env": []}'


@pytest.fixture(scope="module")
def running(containerd_module: Containerd) -> Iterator[tuple[str, Shim]]:
    """A container that runs, and its shim."""
    cid = containerd_module.start("sleep", "1000")
    shim = Shim(containerd_module.bundle(cid))
    yield cid, shim
    shim.close()
    containerd_module.remove(cid)


def code(shim: Shim, method: str, request: Message) -> Code:
    """The code with which a call fails."""
    with pytest.raises(CallError) as failed:
        shim.do(method, request)
    assert failed.value.message
    return Code(failed.value.status_code)


def test_what_does_not_exist(running: tuple[str, Shim]) -> None:
    cid, shim = running
    for method, request in (
        ("Wait", pb.WaitRequest(id="nobody")),
        ("Wait", pb.WaitRequest(id=cid, exec_id="nothing")),
        ("Start", pb.StartRequest(id="nobody")),
        ("Start", pb.StartRequest(id=cid, exec_id="nothing")),
        ("Kill", pb.KillRequest(id=cid, exec_id="nothing", signal=9)),
        ("State", pb.StateRequest(id="nobody")),
        ("Delete", pb.DeleteRequest(id=cid, exec_id="nothing")),
        ("ResizePty", pb.ResizePtyRequest(id=cid, exec_id="nothing")),
        ("Stats", pb.StatsRequest(id="nobody")),
    ):
        assert code(shim, method, request) == Code.NOT_FOUND, method


def test_wrong_states_and_values(running: tuple[str, Shim]) -> None:
    cid, shim = running
    assert code(shim, "Start", pb.StartRequest(id=cid)) == Code.FAILED_PRECONDITION
    assert code(shim, "Delete", pb.DeleteRequest(id=cid)) == Code.FAILED_PRECONDITION
    assert code(shim, "Resume", pb.ResumeRequest(id=cid)) == Code.FAILED_PRECONDITION
    assert code(shim, "Kill", pb.KillRequest(id=cid, signal=99)) == Code.INVALID_ARGUMENT
    assert code(shim, "Checkpoint", pb.CheckpointTaskRequest(id=cid)) == Code.UNIMPLEMENTED
    for spec in (b"", b"[]", b"{}", b'{"args": ["x"]}', b'{"args": ["x"], "cwd": "rel"}'):
        request = pb.ExecProcessRequest(id=cid, exec_id="wrong", spec=AnyMessage(value=spec))
        assert code(shim, "Exec", request) == Code.INVALID_ARGUMENT, spec
    resources = AnyMessage(value=b'{"memory": {"limit": 99999999999}}')
    update = pb.UpdateTaskRequest(id=cid, resources=resources)
    assert code(shim, "Update", update) == Code.INVALID_ARGUMENT


def test_an_exec_id_twice(running: tuple[str, Shim]) -> None:
    cid, shim = running
    request = pb.ExecProcessRequest(id=cid, exec_id="twice", spec=AnyMessage(value=PROCESS))
    shim.do("Exec", request)
    assert code(shim, "Exec", request) == Code.ALREADY_EXISTS
    start = pb.StartRequest(id=cid, exec_id="twice")
    shim.call("Start", start, pb.StartResponse)
    assert code(shim, "Start", start) == Code.FAILED_PRECONDITION
    shim.do("Kill", pb.KillRequest(id=cid, exec_id="twice", signal=9))
    waited = shim.call("Wait", pb.WaitRequest(id=cid, exec_id="twice"), pb.WaitResponse)
    assert waited.exit_status == 137
    assert code(shim, "Kill", pb.KillRequest(id=cid, exec_id="twice", signal=9)) == Code.NOT_FOUND
    shim.call("Delete", pb.DeleteRequest(id=cid, exec_id="twice"), pb.DeleteResponse)


def test_limits_that_fit(containerd_module: Containerd, running: tuple[str, Shim]) -> None:
    cid, shim = running
    resources = AnyMessage(value=b'{"pids": {"limit": 33}}')
    shim.do("Update", pb.UpdateTaskRequest(id=cid, resources=resources))
    stats = shim.call("Stats", pb.StatsRequest(id=cid), pb.StatsResponse).stats
    assert stats.type_url == "io.containerd.cgroups.v2.Metrics"
    listed = containerd_module.check("task", "metrics", cid)
    assert "33" in listed.split()


def test_limits_above_what_the_vm_has(
    containerd_module: Containerd, running: tuple[str, Shim]
) -> None:
    """It began with 128 MiB and a CPU, and gets what is missing as far as the host has it."""
    cid, shim = running
    limits = {"memory": {"limit": 300 << 20}, "cpu": {"quota": 150_000, "period": 100_000}}
    resources = AnyMessage(value=json.dumps(limits).encode())
    shim.do("Update", pb.UpdateTaskRequest(id=cid, resources=resources))
    script = "nproc; awk '/MemTotal/ {print ($2 > 300 * 1024)}' /proc/meminfo"
    look = ("task", "exec", "--exec-id", "look", cid, "sh", "-c", script)
    assert containerd_module.check(*look).split() == [str(min(2, os.cpu_count() or 1)), "1"]
    resources = AnyMessage(value=b'{"memory": {"limit": 1125899906842624}}')
    with pytest.raises(CallError, match="MiB that this machine has"):
        shim.do("Update", pb.UpdateTaskRequest(id=cid, resources=resources))


def test_garbage_on_the_socket(running: tuple[str, Shim]) -> None:
    cid, shim = running
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(BOUND)
        sock.connect(shim.path)
        sock.sendall(pack(1, REQUEST, os.urandom(1000)))
        assert sock.recv(4096)
        sock.sendall(struct.pack(">IIBB", 1 << 30, 3, REQUEST, 0))
        assert sock.recv(4096)
        sock.sendall(os.urandom(1 << 16))
    assert shim.call("State", pb.StateRequest(id=cid), pb.StateResponse).id == cid


def test_200_connections(running: tuple[str, Shim], containerd_module: Containerd) -> None:
    cid, _ = running
    shims = [Shim(containerd_module.bundle(cid)) for _ in range(200)]
    for shim in shims:
        assert shim.call("State", pb.StateRequest(id=cid), pb.StateResponse).id == cid
    for shim in shims:
        shim.close()


@pytest.fixture
def own(containerd_module: Containerd, tmp_path: Path) -> Iterator[OwnBundle]:
    """A shim without a container yet."""
    found = OwnBundle(containerd_module, tmp_path, "sleep", "1000")
    yield found
    found.close()


def bind(tree: Path) -> types_pb2.Mount:
    return types_pb2.Mount(type="bind", source=str(tree), options=["rbind"])


def test_create_that_can_not_be(own: OwnBundle, tree: Path) -> None:
    assert code(own.shim, "Start", pb.StartRequest(id=own.cid)) == Code.NOT_FOUND

    def refused(**more: object) -> CallError:
        with pytest.raises(CallError) as failed:
            own.create(bind(tree), **more)
        return failed.value

    unknown = runtime_options_pb2.Options(config_body=b"kernal = '/k'").SerializeToString()
    options = AnyMessage(type_url="runtimeoptions.v1.Options", value=unknown)
    error = refused(options=options)
    assert error.status_code == Code.INVALID_ARGUMENT
    assert "unknown option 'kernal'" in error.message
    assert refused(checkpoint="/x").status_code == Code.UNIMPLEMENTED
    assert refused(stdout="/no/such/fifo").status_code == Code.INVALID_ARGUMENT
    assert refused(stdout="npipe://x").status_code == Code.UNIMPLEMENTED
    with pytest.raises(CallError) as failed:
        own.create(types_pb2.Mount(type="overlay", source="overlay", options=["lowerdir=/none"]))
    assert "rootfs: overlay" in failed.value.message
    assert str(own.directory) not in Path("/proc/self/mountinfo").read_text()
    own.create(bind(tree))
    assert code(own.shim, "Create", pb.CreateTaskRequest(id=own.cid)) == Code.ALREADY_EXISTS


def test_a_fifo_that_nobody_reads(own: OwnBundle, tree: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "out"
    os.mkfifo(fifo)
    own.create(bind(tree), stdout=str(fifo), stderr=str(fifo))
    own.start()
    assert own.shim.call("State", pb.StateRequest(id=own.cid), pb.StateResponse).pid
