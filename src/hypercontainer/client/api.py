"""The typed client of hyperd."""

from __future__ import annotations

import json

from ..errors import HyperError, NotFound
from .bounds import MAX_BYTES, MAX_OUTPUT
from .execs import ExecCalls
from .files import FileCalls
from .images import ImageCalls
from .networks import NetworkCalls
from .pods import PodCalls
from .snapshots import SnapshotCalls
from .transport import Address, Transport
from .volumes import VolumeCalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Unpack

    from .container import Container, Result
    from .options import Options
    from .streams import RawStream
    from .tls import TLS
    from .transport import Params
    from .types import ContainerSummary, CreatedPod

START_TIMEOUT = 600.0
"""Seconds: an emulated guest on a busy machine is slow; hyperd's own bound is tighter."""


class Client(ExecCalls, FileCalls, ImageCalls, VolumeCalls, NetworkCalls, PodCalls, SnapshotCalls):
    """A client of the hyperd at `host` (`unix:///path` or `tcp://host:port`).

    Without `host` it is that of HYPER_HOST, or the local socket; `tls` is for TCP (without
    it, HYPER_TLS_VERIFY and HYPER_CERT_PATH say whether and how). Containers are
    named by name, id, or unique beginning of the id. All methods raise
    subclasses of `hypercontainer.errors.HyperError`: DaemonUnavailable, NotFound,
    Conflict, BadRequest, Timeout and so on. One connection is opened per call,
    so a client may be shared by threads.
    """

    def __init__(self, host: str | None = None, tls: TLS | None = None) -> None:
        self.address = Address.of(host, tls)
        self._http = Transport(self.address)

    def _get(self, path: str, params: Params | None = None, timeout: float | None = 60.0) -> Any:
        return self._http.request("GET", path, params, timeout=timeout).json()

    def _post(
        self,
        path: str,
        params: Params | None = None,
        body: object = None,
        timeout: float | None = 60.0,
    ) -> Any:
        return self._http.request("POST", path, params, body=body, timeout=timeout).json()

    # The daemon

    def ping(self) -> None:
        """Raises DaemonUnavailable when hyperd does not answer."""
        self._http.request("GET", "/_ping", timeout=10.0).read()

    def version(self) -> dict[str, Any]:
        """Versions of hyperd, QEMU, the guest kernel; the engine."""
        return self._object(self._get("/version"))

    def info(self) -> dict[str, Any]:
        """Numbers of containers and images, directories, memory."""
        return self._object(self._get("/info"))

    @staticmethod
    def _object(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise HyperError(f"hyperd answered with {type(value).__name__} instead of an object")
        return value

    def events(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """What happens, as it happens, in Docker's form; until `until`, before it from `since` on.

        Times are seconds since 1970 or RFC 3339; `filters` names for a key (type,
        event, container, label …) the values that are wanted.
        """
        params: Params = {"since": since, "until": until, "filters": json.dumps(filters or {})}
        return self._http.request("GET", "/events", params, timeout=None).lines()

    # Pods

    def create_pod(self, spec: Mapping[str, Any]) -> CreatedPod:
        """Create a pod from a specification. Raises NotFound when an image is missing."""
        created: CreatedPod = self._post("/pod/create", body=spec, timeout=START_TIMEOUT)
        return created

    def create_container(self, pod: str, spec: Mapping[str, Any]) -> str:
        """Create a container in a pod that exists; its id. Raises NotFound (pod or image)."""
        created = self._post("/container/create", {"podId": pod}, body=spec, timeout=START_TIMEOUT)
        return str(self._object(created)["ID"])

    def start_pod(self, pod: str) -> None:
        """Start a pod's VM and containers. Raises ProgramError for a command that can't run."""
        self._post("/pod/start", {"podId": pod}, timeout=START_TIMEOUT)

    def stop_pod(self, pod: str, timeout: int | None = 10) -> None:
        """Stop a pod's containers, by SIGKILL after `timeout` seconds, and its VM.

        With None each has the time that it was created with.
        """
        bound = START_TIMEOUT if timeout is None else timeout + 60.0
        self._post("/pod/stop", {"podId": pod, "timeout": timeout}, timeout=bound)

    def remove_pod(self, pod: str, *, force: bool = False) -> None:
        """Remove a pod and its containers."""
        params: Params = {"podId": pod, "force": force}
        self._http.request("DELETE", "/pod", params, timeout=120.0).read()

    def pod_info(self, pod: str) -> dict[str, Any]:
        """What hyperd knows of a pod."""
        return self._object(self._get("/pod/info", {"podName": pod}))

    def pause_pod(self, pod: str, *, to_disk: bool = False) -> None:
        """Stop the VM's clockwork; with `to_disk` save it, and end the VM meanwhile."""
        params: Params = {"podId": pod, "disk": to_disk}
        self._post("/pod/pause", params, timeout=START_TIMEOUT)

    def unpause_pod(self, pod: str) -> None:
        """Let the VM go on."""
        self._post("/pod/unpause", {"podId": pod}, timeout=START_TIMEOUT)

    # Containers

    def list_containers(
        self,
        *,
        all: bool = False,
        limit: int | None = None,
        size: bool = False,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[ContainerSummary]:
        """The running containers, or all of them, newest first.

        With `limit` the last so many, running or not; with `size` what they take on disk.
        `filters` names for a key (ancestor, exited, health, label, name, network, pod, status,
        volume …) the values that are wanted.
        """
        params: Params = {
            "all": all,
            "limit": limit,
            "size": size or None,
            "filters": json.dumps(filters) if filters else None,
        }
        found: list[ContainerSummary] = self._get("/containers", params)
        return found

    def inspect_container(self, container: str) -> dict[str, Any]:
        """Everything about a container, in Docker's form. Raises NotFound."""
        return self._object(self._get("/container/json", {"container": container}))

    def start_container(self, container: str) -> None:
        """Start a created or stopped container. Raises ProgramError and VMError."""
        self._post("/container/start", {"container": container}, timeout=START_TIMEOUT)

    def stop_container(self, container: str, timeout: int | None = None) -> None:
        """Ask it to stop; SIGKILL after `timeout` seconds (None: as it was created with)."""
        params: Params = {"container": container, "timeout": timeout}
        self._post("/container/stop", params, timeout=(timeout or 600) + 60.0)

    def kill_container(self, container: str, signal: str | int = "KILL") -> None:
        """Send a signal to the container's first process."""
        self._post("/container/kill", {"container": container, "signal": signal})

    def remove_container(
        self, container: str, *, force: bool = False, volumes: bool = False
    ) -> None:
        """Remove a stopped container, or a running one by `force`."""
        params: Params = {"container": container, "force": force, "v": volumes}
        self._post("/container/remove", params, timeout=120.0)

    def restart_container(self, container: str, timeout: int | None = None) -> None:
        """Stop it if it runs, as `stop_container` does, and start it."""
        params: Params = {"container": container, "timeout": timeout}
        self._post("/container/restart", params, timeout=(timeout or 600) + START_TIMEOUT)

    def rename_container(self, container: str, name: str) -> None:
        """Give it another name. Raises Conflict when that is in use."""
        self._post("/container/rename", {"oldName": container, "newName": name})

    def update_container(self, container: str, changes: Mapping[str, Any]) -> None:
        """Change limits (Memory and MemoryReservation in bytes, NanoCpus, CpuShares, PidsLimit;
        -1 takes one away) and RestartPolicy of a container, running or not; or Vm (memory in
        MiB, vcpu), the size of the VM, of which one that runs only gets more.
        """
        self._post("/container/update", {"container": container}, changes)

    def prune_containers(
        self, filters: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, Any]:
        """Remove those that don't run: `ContainersDeleted`, and `SpaceReclaimed` in bytes.

        Filters are `label`, `label!` and `until`.
        """
        params: Params = {"filters": json.dumps(filters or {})}
        return self._object(self._post("/containers/prune", params, timeout=600.0))

    def pause_container(self, container: str, *, to_disk: bool = False) -> None:
        """Stop the clockwork of the container's VM; with `to_disk` save it, and end the VM
        meanwhile. Raises NotSupported (a volume), NoSpace."""
        params: Params = {"container": container, "disk": to_disk}
        self._post("/container/pause", params, timeout=START_TIMEOUT)

    def unpause_container(self, container: str) -> None:
        """Let the VM go on."""
        self._post("/container/unpause", {"container": container}, timeout=START_TIMEOUT)

    def wait(
        self, container: str, exec_id: str | None = None, *, timeout: int | None = None
    ) -> int:
        """Wait for the end of a container, or of a process in it; its exit code (128+n for a
        death by signal n). Raises Timeout after `timeout` seconds; None: unbounded."""
        params: Params = {"container": container, "exec": exec_id, "timeout": timeout}
        patience = None if timeout is None else timeout + 60.0
        code = self._get("/exitcode", params, timeout=patience)
        if not isinstance(code, int):
            raise HyperError(f"hyperd answered {code!r} instead of an exit code")
        return code

    def attach(
        self,
        container: str,
        *,
        stdin: bool = False,
        logs: bool = False,
        detach_keys: str = "",
        exec_id: str | None = None,
    ) -> RawStream:
        """The streams of a container; attached before its start, none of its output is lost.

        With `logs` what it wrote before comes first. `detach_keys` (such as
        "ctrl-p,ctrl-q", the default) in the input for a terminal end the stream.
        With `exec_id` they are those of an exec that was started already.
        """
        params: Params = {
            "container": container,
            "stdin": stdin,
            "logs": logs,
            "detachKeys": detach_keys or None,
            "exec": exec_id,
        }
        return self._http.request("POST", "/attach", params, upgrade=True).hijack()

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        since: str | None = None,
        until: str | None = None,
        tail: str | int | None = None,
        timestamps: bool = False,
        details: bool = False,
        stdout: bool = True,
        stderr: bool = True,
    ) -> Iterator[bytes]:
        """What a container wrote: stdcopy frames (see Demultiplexer), raw for a terminal."""
        params: Params = {
            "container": container,
            "stdout": stdout,
            "stderr": stderr,
            "follow": follow,
            "since": since,
            "until": until,
            "tail": tail,
            "timestamps": timestamps,
            "details": details,
        }
        timeout = None if follow else 60.0
        return self._http.request("GET", "/container/logs", params, timeout=timeout).chunks()

    def stats(
        self, containers: Sequence[str] = (), *, stream: bool = True
    ) -> Iterator[list[dict[str, Any]]]:
        """What containers (none named: all that run) use, in Docker's form, each second.

        Without `stream` there is one list, of a second's work.
        """
        params: Params = {"containers": ",".join(containers), "stream": stream}
        return self._http.request("GET", "/container/stats", params, timeout=60.0).lines()

    def top(self, container: str) -> dict[str, Any]:
        """The processes of a container: `Titles` and `Processes`, rows of texts."""
        return self._object(self._get("/container/top", {"container": container}))

    def resize(self, container: str, rows: int, columns: int, exec_id: str | None = None) -> None:
        """Set the size of a terminal."""
        params: Params = {"container": container, "exec": exec_id, "h": rows, "w": columns}
        self._post("/tty/resize", params)

    # The whole thing

    def container(self, reference: str) -> Container:
        """A container that exists, as an object. Raises NotFound."""
        from .container import Container

        return Container(self, str(self.inspect_container(reference)["Id"]))

    def create(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        stdin: bool = False,
        **options: Unpack[Options],
    ) -> Container:
        """Create a container, without starting it; the `Options` are those of `run`.

        With `stdin` it waits for input. Used as a context manager it is removed at the end.
        Raises BadRequest, Conflict (the name), and NotFound when the image can't be had.
        """
        from .container import create

        return create(self, image, command, options, stdin=stdin)

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        outputs: Sequence[str] = (),
        max_output: int = MAX_OUTPUT,
        max_files: int = MAX_BYTES,
        **options: Unpack[Options],
    ) -> Result:
        """Run a program in a VM of its own; its exit code, output and files.

        `input` is its stdin. After `timeout` seconds from its start it is killed, and the
        result says `timed_out`. `outputs` are paths of files or directories that are read
        when it has ended, at most `max_files` bytes of them; those that are not there are
        left out. `max_output` bounds what is kept of stdout and of stderr. The container has
        no network unless `options` (see Options) say so, and is removed in any case.
        Raises ProgramError when the program can't be executed, NotFound, BadRequest, TooLarge.
        """
        from .container import create

        with create(self, image, command, options, stdin=input is not None) as container:
            result = container.run_to_end(input=input, timeout=timeout, max_output=max_output)
            for path in outputs:
                left = max_files - sum(map(len, result.files.values()))
                try:
                    result.files |= container.get_files(path, max_bytes=left)
                except NotFound:
                    pass
            return result
