"""One of those who start, use, crash, stop and remove pods of their own."""

import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypercontainer.errors import (
    BadRequest,
    Conflict,
    HyperError,
    NotFound,
    NotRunning,
    VMError,
)
from tests.e2e.hyperd_process import Hyperd

COUNT = "httpd -p 80 -h /etc; i=0; while :; do echo $i; i=$((i+1)); sleep 0.3; done"
MOST = 5
_AWAY = ("no_daemon", "timeout")
_RETRY_BOUND = 60.0
_NETWORKS: tuple[dict[str, Any], ...] = (
    {"pod_network": "none"},
    {"pod_network": "bridge"},
    {"pod_network": "own"},
    {"pod_network": "own", "pod_portmappings": [{"containerPort": 80}]},
    {"pod_network": "bridge", "pod_portmappings": [{"containerPort": 80}]},
)
_POLICIES = ("no", "no", "no", "always", "on-failure:3")


class Lost(Exception):
    """Something that was there, or an answer, is not there."""


class Worker(threading.Thread):
    """Acts until the deadline. `done` counts actions, `problems` says what was wrong."""

    def __init__(self, hyperd: Hyperd, number: int, seed: int, deadline: float) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self.doing = "nothing"
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._hyperd = hyperd
        self._random = random.Random(f"{seed} {number}")
        self._deadline = deadline
        self._number = number
        self._made = 0
        self._network = f"n{number}"
        # The pods that must be there, with the statuses that their container may have.
        self._pods: dict[str, set[str]] = {}
        self._actions: list[tuple[int, Callable[[str], None]]] = [
            (4, self._do_start),
            (6, self._do_exec),
            (3, self._do_logs),
            (4, self._do_fetch),
            (2, self._do_stop),
            (2, self._do_crash),
            (1, self._do_pause),
            (1, self._do_move),
            (3, self._do_remove),
            (1, self._do_force),
        ]

    def run(self) -> None:
        """Act."""
        while not self._has_network():
            time.sleep(0.2)
        while time.monotonic() < self._deadline:
            try:
                self._act()
            except Exception as error:
                self.problems.append(f"{self.name}: {self.doing}: {type(error).__name__}: {error}")
                if len(self.problems) > 5:
                    return

    def _act(self) -> None:
        if not self._pods or (len(self._pods) < MOST and self._random.random() < 0.3):
            self._do_create()
            return
        pod = self._random.choice(sorted(self._pods))
        weights, actions = zip(*self._actions, strict=True)
        (action,) = self._random.choices(actions, weights)
        self.doing = f"{action.__name__.removeprefix('_do_')} {pod}"
        action(pod)
        self.done[action.__name__.removeprefix("_do_")] += 1

    def _ask(self, call: Callable[[], Any], *fine: type[HyperError]) -> bool:
        """Make a request; whether it was answered by success.

        False when hyperd went away meanwhile, and for errors that are `fine`.
        """
        try:
            call()
        except fine:
            return False
        except (HyperError, OSError) as error:
            if isinstance(error, HyperError) and not _is_away(error):
                raise
            return False
        return True

    def _status(self, pod: str) -> str:
        """What hyperd says of a pod, "" when it does not know it; waits for hyperd."""
        end = time.monotonic() + _RETRY_BOUND
        while True:
            try:
                return str(self._hyperd.state_of(pod)["Status"])
            except NotFound:
                return ""
            except (HyperError, OSError) as error:
                if isinstance(error, HyperError) and not _is_away(error):
                    raise
                if time.monotonic() > end:
                    raise Lost(f"hyperd does not answer: {error}") from error
                time.sleep(0.2)

    def _expect(self, pod: str, *statuses: str) -> str:
        """The pod's status, which must be one of these; "" forgets it."""
        end = time.monotonic() + _RETRY_BOUND
        while (status := self._status(pod)) == "starting" and time.monotonic() < end:
            time.sleep(0.2)
        if status not in statuses:
            raise Lost(f"{pod} is {status or 'gone'}, not {' or '.join(statuses) or 'gone'}")
        if status:
            self._pods[pod] = {status}
        else:
            self._pods.pop(pod, None)
        return status

    def _has_network(self) -> bool:
        """Whether the worker's own network is there; makes it."""
        create = self._hyperd.client.create_network
        return self._ask(lambda: create(self._network)) or self._ask(
            lambda: self._hyperd.client.inspect_network(self._network), NotFound
        )

    def _do_move(self, pod: str) -> None:
        """Put it into the worker's network, or take it out."""
        client = self._hyperd.client
        fine = (Conflict, NotFound, NotRunning, VMError, BadRequest)
        if self._random.random() < 0.5:
            self._ask(lambda: client.connect_network(self._network, pod), *fine)
        else:
            self._ask(lambda: client.disconnect_network(self._network, pod), *fine)

    def _do_create(self) -> None:
        self._made += 1
        pod = f"w{self._number}-{self._made}"
        self.doing = f"create {pod}"
        kinds = ("named", "anonymous", "none", "none")
        volumes = {
            "named": [{"path": "/data", "detail": {"name": f"v{self._number}"}}],
            "anonymous": [{"path": "/data"}],
            "none": [],
        }[self._random.choice(kinds)]
        policy = self._random.choice(_POLICIES)
        network = dict(self._random.choice(_NETWORKS))
        if network["pod_network"] == "own":
            network["pod_network"] = self._network
        if self._ask(
            lambda: self._hyperd.create(
                *("sh", "-c", COUNT), name=pod, volumes=volumes, restartPolicy=policy, **network
            )
        ):
            self._expect(pod, "created")
        else:
            self._expect(pod, "created", "")
        self.done["create"] += 1

    def _do_start(self, pod: str) -> None:
        if self._ask(lambda: self._hyperd.client.start_container(pod), VMError):
            self._expect(pod, "running", "paused", "restarting", "exited")
        else:
            self._expect(pod, "created", "running", "paused", "restarting", "exited")

    def _do_exec(self, pod: str) -> None:
        output: list[tuple[int, str]] = []
        mark = f"mark {self._random.random()}"
        if self._ask(
            lambda: output.append(self._hyperd.execute(pod, "echo", mark)),
            *(NotRunning, VMError, NotFound, Conflict),
        ):
            assert output == [(0, f"{mark}\n")], output

    def _do_logs(self, pod: str) -> None:
        """Every run counts from 0, and no number is missing, whoever was killed."""
        text: list[str] = []
        if not self._ask(lambda: text.append(self._hyperd.output_of(pod))):
            return
        *numbers, _ = text[0].split("\n")
        previous = -1
        for line, number in enumerate(numbers):
            if number not in ("0", str(previous + 1)):
                raise Lost(f"the log of {pod} has {number!r} after {previous} in line {line}")
            previous = int(number)

    def _do_fetch(self, pod: str) -> None:
        """A published port is served as long as its VM lives, whatever becomes of hyperd."""
        before = self._vm_and_port(pod)
        if before is None:
            return
        end = time.monotonic() + _RETRY_BOUND
        while _fetched(before[1]) != b"root:x:0:0:":
            if self._vm_and_port(pod) != before:
                return
            if time.monotonic() > end:
                raise Lost(f"{pod} runs, and does not answer at its port {before[1]}")
            time.sleep(0.3)

    def _vm_and_port(self, pod: str) -> tuple[int, int] | None:
        """The VM of a running pod and the port that is published; None without."""
        found: list[dict[str, Any]] = []
        if not self._ask(
            lambda: found.append(self._hyperd.client.inspect_container(pod)), NotFound
        ):
            return None
        (about,) = found
        ports = (about["NetworkSettings"].get("Ports") or {}).get("80/tcp") or []
        if about["State"]["Status"] != "running" or not ports:
            return None
        return int(about["VM"].get("VmmPid") or 0), int(ports[0]["HostPort"])

    def _do_stop(self, pod: str) -> None:
        if self._ask(lambda: self._hyperd.client.stop_container(pod, 0), NotRunning):
            self._expect(pod, "exited", "created")
        else:
            self._expect(pod, "exited", "running", "paused", "restarting", "created")

    def _do_crash(self, pod: str) -> None:
        """Kill its QEMU, or its sandbox."""
        victim = self._random.choice(("VmmPid", "Pid"))
        found: list[int] = []
        self._ask(lambda: found.append(int(self._hyperd.vm_of(pod).get(victim) or 0)))
        if not found or not found[0]:
            return
        try:
            os.kill(found[0], signal.SIGKILL)
        except ProcessLookupError:
            return
        end = time.monotonic() + _RETRY_BOUND
        while self._same_vm(pod, victim, found[0]):
            if time.monotonic() > end:
                raise Lost(f"the VM of {pod} was killed, and it is not noticed")
            time.sleep(0.2)

    def _same_vm(self, pod: str, key: str, pid: int) -> bool:
        if self._status(pod) not in ("running", "paused"):
            return False
        found: list[int] = [pid]
        self._ask(lambda: found.append(int(self._hyperd.vm_of(pod).get(key) or 0)))
        return found[-1] == pid

    def _do_pause(self, pod: str) -> None:
        if self._ask(lambda: self._hyperd.client.pause_container(pod), NotRunning, VMError):
            time.sleep(self._random.uniform(0, 0.5))
            self._ask(lambda: self._hyperd.client.unpause_container(pod), NotRunning, VMError)
        # Paused it may be still, when hyperd was away.
        if self._status(pod) == "paused":
            self._ask(lambda: self._hyperd.client.unpause_container(pod), NotRunning, VMError)

    def _do_remove(self, pod: str) -> None:
        remove = self._hyperd.client.remove_container
        if self._ask(lambda: remove(pod, volumes=True), Conflict, NotFound):
            self._expect(pod, "")
        else:
            self._expect(pod, "", "created", "exited", "running", "paused", "restarting")

    def _do_force(self, pod: str) -> None:
        remove = self._hyperd.client.remove_container
        if self._ask(lambda: remove(pod, force=True, volumes=True), NotFound):
            self._expect(pod, "")
        else:
            self._expect(pod, "", "created", "exited", "running", "paused", "restarting")

    def clear(self) -> None:
        """Remove all pods and volumes of this worker."""
        for pod in sorted(self._pods):
            self._hyperd.client.remove_container(pod, force=True, volumes=True)
        name = f"v{self._number}"
        if (self._hyperd.root / "volumes" / name).exists():
            self._hyperd.client.remove_volume(name)
        self._hyperd.client.remove_network(self._network)


def _fetched(port: int) -> bytes:
    """The beginning of /etc/passwd of the container behind a port; empty if that fails."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(b"GET /passwd HTTP/1.0\r\n\r\n")
            data = b""
            while part := sock.recv(4096):
                data += part
    except OSError:
        return b""
    return data.partition(b"\r\n\r\n")[2][:11]


def _is_away(error: HyperError) -> bool:
    """Whether hyperd was killed before it answered, or while it did."""
    return error.code in _AWAY or "closed the connection" in error.message
