"""Calls to a shim past containerd: a bundle of the test's own, or one that containerd has."""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from hypercontainer.containerd.api import shim_task_pb2 as pb
from hypercontainer.containerd.api import types_pb2
from hypercontainer.containerd.ttrpc.client import Client
from hypercontainer.containerd.ttrpc.status import CallError
from tests.e2e.rootfs import make_config
from tests.engines.commands import BOUND
from tests.engines.containerd import Containerd
from tests.engines.needs import runv_command

SERVICE = "containerd.task.v2.Task"
SHIM = runv_command().parent / "containerd-shim-runv-v2"
M = TypeVar("M", bound=Message)


class Shim:
    """The shim of a container, by the address in its bundle."""

    def __init__(self, bundle: Path) -> None:
        self.path = (bundle / "address").read_text().removeprefix("unix://")
        self._client = Client(self.path)

    def call(self, method: str, request: Message, answer: type[M]) -> M:
        """One call."""
        return self._client.call(SERVICE, method, request, answer, BOUND)

    def do(self, method: str, request: Message) -> None:
        """A call without an answer."""
        self.call(method, request, Empty)

    def pid(self, cid: str) -> int:
        """The shim's own pid."""
        return self.call("Connect", pb.ConnectRequest(id=cid), pb.ConnectResponse).shim_pid

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


class OwnBundle:
    """A container that only its shim and the test know; its events go to a real containerd."""

    def __init__(self, engine: Containerd, directory: Path, *args: str, **annotations: str) -> None:
        self.cid = engine.new_id()
        self.directory = directory
        config = make_config(*args)
        config["root"] = {"path": "rootfs"}
        config["annotations"] = {key.replace("__", "."): v for key, v in annotations.items()}
        config["linux"]["cgroupsPath"] = f"/{engine.name}/{self.cid}"
        (directory / "rootfs").mkdir()
        (directory / "config.json").write_text(json.dumps(config))
        self._flags = (
            *("-namespace", "default", "-id", self.cid),
            *("-address", f"{engine.directory}/c.sock"),
        )
        self._environment = {"TTRPC_ADDRESS": f"{engine.directory}/c.sock.ttrpc"}
        self.command("start")
        self.shim = Shim(directory)

    def command(self, *action: str) -> "subprocess.CompletedProcess[bytes]":
        """Run the shim's program as containerd does."""
        done = subprocess.run(
            [str(SHIM), *self._flags, *action],
            cwd=self.directory,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BOUND,
        )
        assert done.returncode == 0, done.stderr
        return done

    def create(self, *mounts: types_pb2.Mount, **more: Any) -> int:
        """Create; returns the pid."""
        request = pb.CreateTaskRequest(
            id=self.cid, bundle=str(self.directory), rootfs=mounts, **more
        )
        return self.shim.call("Create", request, pb.CreateTaskResponse).pid

    def start(self) -> None:
        """Start the program."""
        self.shim.call("Start", pb.StartRequest(id=self.cid), pb.StartResponse)

    def wait(self) -> int:
        """The program's exit status."""
        return self.shim.call("Wait", pb.WaitRequest(id=self.cid), pb.WaitResponse).exit_status

    def run(self, *mounts: types_pb2.Mount, **more: Any) -> int:
        """Create, start and wait."""
        self.create(*mounts, **more)
        self.start()
        return self.wait()

    def delete(self) -> None:
        """Delete the container, which has ended."""
        self.shim.call("Delete", pb.DeleteRequest(id=self.cid), pb.DeleteResponse)

    def close(self) -> None:
        """Delete the container if there is one, and end the shim."""
        try:
            with contextlib.suppress(CallError):
                self.shim.do("Kill", pb.KillRequest(id=self.cid, signal=9))
                self.wait()
            with contextlib.suppress(CallError):
                self.delete()
            self.shim.do("Shutdown", pb.ShutdownRequest(id=self.cid))
        finally:
            self.shim.close()
            self.command("-bundle", str(self.directory), "delete")
