"""A containerd of the tests' own with its CRI plugin and a CNI bridge, in a network namespace."""

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import grpc

from tests.containerd.cri_client import CRIClient
from tests.containerd.cri_streaming import Ended, Stream, streaming
from tests.engines import leftovers
from tests.engines.commands import run, until
from tests.engines.network_namespace import NetworkNamespace, unique

PROGRAM = Path("/usr/bin/containerd")
IMAGE = "localhost/box:1"
# Each container has processes of its own, as kubelet wants it unless the pod says otherwise.
APART = {"namespace_options": {"pid": 1}}
_CONFIGURATION = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
address = "{directory}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
tolerate_missing_hugetlb_controller = true
netns_mounts_under_state_dir = true
stats_collect_period = 1
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{directory}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runv]
{runtime}
"""
_BY_RUNC_SHIM = """
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runv.options]
BinaryName = "{runv}"
Root = "{directory}/runv"
"""
_BY_RUNV_SHIM = """
runtime_type = "io.containerd.runv.v2"
"""


class CRI:
    """Debian's containerd, whose runtime handler `runv` makes each pod a VM."""

    def __init__(self, directory: Path, archive: Path, runv: Path, *, shim: bool = True) -> None:
        """The handler is runv's own shim, or without `shim` runc's, which calls runv."""
        self.directory = directory
        self._runv = runv
        runtime = _BY_RUNV_SHIM if shim else _BY_RUNC_SHIM.format(runv=runv, directory=directory)
        self.name = unique("hypcri")
        self.namespace = NetworkNamespace(self.name)
        self._numbers = itertools.count()
        self._log = (directory / "containerd.log").open("wb")
        (directory / "config.toml").write_text(
            _CONFIGURATION.format(directory=directory, image=IMAGE, runtime=runtime)
        )
        _write_network(directory)
        self._process = self._start()
        self.call = CRIClient(PROGRAM, directory / "c.sock")
        try:
            until(self._ready, "containerd's CRI is ready", 60)
            self.ctr("images", "import", str(archive))
            until(lambda: self.call("ImageStatus", image={"image": IMAGE}).HasField("image"), IMAGE)
        except BaseException:
            self.close()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.namespace.inside(str(PROGRAM), "--config", f"{self.directory}/config.toml"),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            # containerd looks for its shims there.
            env={**os.environ, "PATH": f"{self._runv.parent}:{os.environ['PATH']}"},
        )

    def _ready(self) -> bool:
        try:
            conditions = self.call("Status").status.conditions
        except grpc.RpcError:
            return False
        return len(conditions) == 2 and all(condition.status for condition in conditions)

    def restart(self, signum: int) -> None:
        """End containerd by a signal and start it again."""
        self._process.send_signal(signum)
        self._process.wait(30)
        self._process = self._start()
        until(self._ready, "containerd's CRI is ready", 60)

    def ctr(self, *argv: str) -> str:
        """What a `ctr` command says, in the namespace of Kubernetes' containers."""
        return run(
            *("ctr", "--address", f"{self.directory}/c.sock", "-n", "k8s.io"), *argv, check=True
        ).out

    def pod(self, *, handler: str = "runv", **config: Any) -> "Pod":
        """Run a pod."""
        number = next(self._numbers)
        name = f"pod{number}"
        linux = {
            "cgroup_parent": f"/{self.name}/{name}",
            "security_context": APART,
            **config.pop("linux", {}),
        }
        whole = {
            "metadata": {"name": name, "uid": name, "namespace": self.name},
            "hostname": name,
            "log_directory": str(self.directory / "logs" / name),
            "linux": linux,
            **config,
        }
        started = self.call("RunPodSandbox", config=whole, runtime_handler=handler)
        return Pod(self, started.pod_sandbox_id, whole)

    def remove_all(self) -> None:
        """Remove what the last test left."""
        for item in self.call("ListPodSandbox").items:
            self.call("StopPodSandbox", pod_sandbox_id=item.id)
            self.call("RemovePodSandbox", pod_sandbox_id=item.id)

    def look(self) -> dict[str, object]:
        """What is left of pods."""
        return {
            "pods": [item.id for item in self.call("ListPodSandbox").items],
            "processes": leftovers.vm_processes(self.name)
            | leftovers.vm_processes(str(self.directory)),
            # The group of a pod is kubelet's.
            "groups": {g for g in leftovers.groups(self.name) if Path(g).parent.name != self.name},
            "links": {link for link in self.namespace.links() if link.startswith("veth")},
            "mounts": self._mounts(),
            "files": [
                str(path)
                for where in (
                    "runv/k8s.io/*",
                    "state/io.containerd.runtime.v2.task/k8s.io/*",
                    "ipam/*.*.*.*",
                )
                for path in self.directory.glob(where)
            ],
        }

    def _mounts(self) -> set[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return {line for line in lines if str(self.directory) in line}

    def close(self) -> None:
        """Stop containerd, and remove what it made on the host."""
        self.call.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        leftovers.kill_all(str(self.directory))
        self._log.close()
        self.namespace.close()
        leftovers.remove_groups(self.name)
        for line in self._mounts():
            run("umount", "-l", line.split()[4])


class Pod:
    """A pod sandbox of the tests."""

    def __init__(self, cri: CRI, identity: str, config: dict[str, Any]) -> None:
        self.id = identity
        self.config = config
        self._cri = cri

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.config["metadata"]["name"])

    def status(self) -> Any:
        """Its PodSandboxStatus."""
        return self._cri.call("PodSandboxStatus", pod_sandbox_id=self.id).status

    @property
    def address(self) -> str:
        """Its IP address."""
        return str(self.status().network.ip)

    def container(self, name: str, *argv: str, **config: Any) -> "Container":
        """Create a container in it."""
        whole = {
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": list(argv),
            "log_path": f"{name}.log",
            **config,
            "linux": {"security_context": APART, **config.get("linux", {})},
        }
        Path(self.config["log_directory"]).mkdir(parents=True, exist_ok=True)
        made = self._cri.call(
            "CreateContainer", pod_sandbox_id=self.id, config=whole, sandbox_config=self.config
        )
        return Container(self._cri, made.container_id, f"{self.config['log_directory']}/{name}.log")

    def run(self, name: str, *argv: str, **config: Any) -> "Container":
        """Create and start a container in it."""
        container = self.container(name, *argv, **config)
        container.start()
        return container

    def forward(self, port: int, request: bytes) -> bytes:
        """What a server at a port of the pod answers to `request`, through the CRI.

        Raises ConnectionError.
        """
        url = self._cri.call("PortForward", pod_sandbox_id=self.id, port=[port]).url

        async def work(stream: Stream) -> bytes:
            await stream.send(0, request)
            said = b""
            # Each channel begins with a message of the port's number.
            while (received := await stream.receive()) is not None:
                channel, data = received
                if channel == 1 and len(data) != 2:
                    raise ConnectionError(data.decode())
                said += data if channel == 0 else b""
            return said[2:]

        return streaming(self._cri.namespace, f"{url}?port={port}", work)

    def stop(self) -> None:
        """Stop it and its containers."""
        self._cri.call("StopPodSandbox", pod_sandbox_id=self.id)

    def remove(self) -> None:
        """Stop and remove it with its containers."""
        self.stop()
        self._cri.call("RemovePodSandbox", pod_sandbox_id=self.id)


class Container:
    """A container of a pod."""

    def __init__(self, cri: CRI, identity: str, log: str) -> None:
        self.id = identity
        self.log = Path(log)
        self._cri = cri

    def start(self) -> None:
        """Let its program run."""
        self._cri.call("StartContainer", container_id=self.id)

    def status(self) -> Any:
        """Its ContainerStatus."""
        return self._cri.call("ContainerStatus", container_id=self.id).status

    def state(self) -> str:
        """Its state in words, such as CONTAINER_RUNNING."""
        return self._cri.call.word("ContainerState", self.status().state)

    def wait(self) -> Any:
        """Its status once it has exited."""
        until(lambda: self.state() == "CONTAINER_EXITED", f"the end of {self.id}")
        return self.status()

    def exec(self, *argv: str, timeout: int = 60) -> Any:
        """Run a command in it to its end: `stdout`, `stderr`, `exit_code`."""
        return self._cri.call("ExecSync", container_id=self.id, cmd=argv, timeout=timeout)

    def said(self, *argv: str) -> str:
        """What a command in it that must not fail says."""
        done = self.exec(*argv)
        assert done.exit_code == 0, done
        return str(done.stdout.decode())

    def stream(self, *argv: str, stdin: bytes = b"") -> Ended:
        """Run a command in it by the streaming server."""
        url = self._cri.call(
            "Exec", container_id=self.id, cmd=argv, stdin=bool(stdin), stdout=True, stderr=True
        ).url

        async def work(stream: Stream) -> Ended:
            if stdin:
                await stream.send(0, stdin)
            return await stream.rest()

        return streaming(self._cri.namespace, url, work)

    def lines(self) -> list[tuple[str, str, str]]:
        """Its log: of each line the stream, the tag (F: full, P: partial) and the text."""
        fields = (line.split(" ", 3) for line in self.log.read_text().splitlines())
        return [(stream, tag, text) for _, stream, tag, text in fields]

    def stop(self, timeout: int = 10) -> None:
        """End it: SIGTERM, and SIGKILL after `timeout` seconds."""
        self._cri.call("StopContainer", container_id=self.id, timeout=timeout)

    def remove(self) -> None:
        """Remove it, stopped or not."""
        self._cri.call("RemoveContainer", container_id=self.id)


def _write_network(directory: Path) -> None:
    """A bridge with addresses, as a node of Kubernetes has it."""
    plugins: list[dict[str, Any]] = [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(directory),
                "ranges": [[{"subnet": "10.213.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    folder = directory / "cni"
    folder.mkdir()
    network = {"cniVersion": "0.4.0", "name": "ipam", "plugins": plugins}
    (folder / "10-pods.conflist").write_text(json.dumps(network))
