"""hyperd killed before every step of creating, starting, ending and removing; then the next one.

Counted by `crashing_hyperd`. All points take minutes: `make test-crashes`; otherwise some
operations are drawn, and some points of each: HYPER_SEED says which, HYPER_CRASH_POINTS how many
points, or `all`.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypercontainer.errors import HyperError, NotFound
from tests.e2e import leaks
from tests.e2e.hyperd_process import COMMAND, Hyperd, wait_until
from tests.e2e.netns import NetHyperd, alone

pytestmark = pytest.mark.timeout(1200)

COUNT = "httpd -p 80 -h /etc; i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"
POINTS = os.environ.get("HYPER_CRASH_POINTS", "1")
SEED = os.environ.get("HYPER_SEED", "1")
PORTS = [{"containerPort": 80, "hostPort": 8080}]
MORE_PORTS = [{"containerPort": 80, "hostPort": 8081}]
VOLUMES = [{"path": "/own", "detail": {"name": "kept"}}, {"path": "/anonymous"}]


class Crashing(NetHyperd):
    """A hyperd that dies before a step of what it is asked next."""

    quiet: dict[str, set[str]]
    """What its namespace has of interfaces, addresses, routes and rules without pods."""

    def command(self, *flags: str) -> list[str]:
        """With `crashing_hyperd` in hyperd's place."""
        command = super().command(*flags)
        at = command.index(COMMAND[0])
        program = [sys.executable, "-m", "tests.e2e.crashing_hyperd", str(self.root.parent)]
        return [*command[:at], *program, *command[at + len(COMMAND) :]]

    def count(self, at: int) -> None:
        """Let it count from now on, and die at step `at` if that is not 0."""
        (self.root.parent / "steps").unlink(missing_ok=True)
        (self.root.parent / "at").write_text(str(at))
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)
        wait_until((self.root.parent / "steps").exists, "counting")

    def steps(self) -> list[str]:
        """What was counted."""
        return (self.root.parent / "steps").read_text().splitlines()

    def died(self) -> bool:
        """Whether it has."""
        assert self.process is not None
        return self.process.poll() is not None


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashing]:
    """One for all tests; each may kill it, and starts it again."""
    with alone(Crashing, tmp_path_factory.mktemp("crashing")) as hyperd:
        hyperd.client.create_network("side")
        running(hyperd)
        hyperd.client.remove_container("victim", force=True, volumes=True)
        hyperd.nothing_left()
        hyperd.quiet = leaks.network(hyperd.namespace.name)
        yield hyperd


def create(hyperd: Hyperd, **keys: Any) -> None:
    command = ("sh", "-c", COUNT)
    hyperd.create(*command, name="victim", volumes=VOLUMES, pod_portmappings=PORTS, **keys)


def created(hyperd: Hyperd) -> None:
    create(hyperd)


def running(hyperd: Hyperd, **keys: Any) -> None:
    create(hyperd, **keys)
    hyperd.client.start_container("victim")


def exited(hyperd: Hyperd) -> None:
    running(hyperd)
    hyperd.client.stop_container("victim", 0)


def connected(hyperd: Hyperd) -> None:
    running(hyperd)
    hyperd.client.connect_network("side", "victim")


def published(hyperd: Hyperd) -> None:
    running(hyperd)
    hyperd.client.add_ports("victim", MORE_PORTS)


def kill_vm(hyperd: Hyperd) -> None:
    os.kill(hyperd.vm_of("victim")["VmmPid"], signal.SIGKILL)


OPERATIONS: dict[str, tuple[Callable[[Hyperd], None], Callable[[Hyperd], object], set[str]]] = {
    "create": (lambda h: None, create, {"created", ""}),
    "start": (
        created,
        lambda h: h.client.start_container("victim"),
        {"created", "running", "exited"},
    ),
    "stop": (running, lambda h: h.client.stop_container("victim", 0), {"running", "exited"}),
    "remove": (exited, lambda h: h.client.remove_container("victim", volumes=True), {"exited", ""}),
    "force": (
        running,
        lambda h: h.client.remove_container("victim", force=True, volumes=True),
        {"running", "exited", ""},
    ),
    "end": (running, kill_vm, {"exited"}),
    "restart": (lambda h: running(h, restartPolicy="always"), kill_vm, {"running", "restarting"}),
    "connect": (running, lambda h: h.client.connect_network("side", "victim"), {"running"}),
    "disconnect": (
        connected,
        lambda h: h.client.disconnect_network("side", "victim"),
        {"running"},
    ),
    "publish": (running, lambda h: h.client.add_ports("victim", MORE_PORTS), {"running"}),
    "unpublish": (published, lambda h: h.client.delete_ports("victim", MORE_PORTS), {"running"}),
    "vanish": (lambda h: running(h, pod_autoRemove=True), kill_vm, {""}),
}


def drawn(count: int) -> list[str]:
    """Some of the operations, or all."""
    names = list(OPERATIONS)
    return names if POINTS == "all" else random.Random(SEED).sample(names, count)


@pytest.mark.parametrize("operation", drawn(4))
def test_killed_before_each_step(crashing: Crashing, operation: str) -> None:
    prepare, run, statuses = OPERATIONS[operation]
    hyperd = crashing
    prepare(hyperd)
    hyperd.count(0)
    run(hyperd)
    steps = settled(hyperd)
    assert steps
    clear(hyperd)
    points = list(range(1, len(steps) + 1))
    if POINTS != "all":
        some = random.Random(f"{SEED} {operation}").sample(points, min(int(POINTS), len(points)))
        points = sorted(some)
    for point in points:
        about = f"{operation}, seed {SEED}: killed before step {point}, {steps[point - 1]}"
        sys.stderr.write(f"{about}\n")
        prepare(hyperd)
        hyperd.count(point)
        try:
            run(hyperd)
        except (HyperError, OSError):
            pass
        # The order of steps is not always the same, nor is their number.
        deadline = time.monotonic() + 5
        while not hyperd.died() and time.monotonic() < deadline:
            time.sleep(0.05)
        hyperd.end(signal.SIGKILL)
        hyperd.start()
        assert status(hyperd) in statuses, about
        check(hyperd, about)


def settled(hyperd: Crashing) -> list[str]:
    """The steps, once there are no more for a while."""
    steps: list[str] = []
    while (now := hyperd.steps()) != steps or not steps:
        steps = now
        time.sleep(0.4)
    return steps


def status(hyperd: Hyperd) -> str:
    """The victim's status, "" when there is none; one that is about to start has started."""
    found = hyperd.client.list_containers(all=True)
    assert len(found) <= 1, found
    if not found:
        return ""
    wait_until(lambda: hyperd.state_of("victim")["Status"] != "starting", "the end of its start")
    assert found[0]["Names"] == ["/victim"]
    return str(hyperd.state_of("victim")["Status"])


def check(hyperd: Hyperd, about: str) -> None:
    """What is there works, what is not there has left nothing, and its name is free."""
    now = status(hyperd)
    if now == "restarting":
        wait_until(lambda: status(hyperd) == "running", f"{about}: its restart")
        now = "running"
    if now == "running":
        assert hyperd.execute("victim", "echo", "hi") == (0, "hi\n"), about
        wait_until(lambda: "0" in hyperd.output_of("victim").split(), f"{about}: its output")
        # Started anew, it has the output of its first run already, but maybe no server yet.
        wait_until(lambda: serves(hyperd), f"{about}: its port")
        wait_until(lambda: wired(hyperd), f"{about}: the cards and ports that are told of")
        numbers = hyperd.output_of("victim").split()
        last = numbers[len(numbers) - 1 - numbers[::-1].index("0") :]
        assert last == [str(n) for n in range(len(last))], f"{about}: output is missing"
    if now == "exited":
        state = hyperd.state_of("victim")
        assert state["ExitCode"] in (125, 137), (about, state)
        assert state["Error"] or state["Reason"], (about, state)
    clear(hyperd)
    running(hyperd)
    assert hyperd.execute("victim", "echo", "hi") == (0, "hi\n"), about
    clear(hyperd)


def serves(hyperd: Hyperd) -> bool:
    """Whether the published port answers."""
    assert isinstance(hyperd, Crashing)
    try:
        served = hyperd.namespace.tcp("127.0.0.1", 8080, b"GET /passwd HTTP/1.0\r\n\r\n")
    except ConnectionRefusedError:
        return False
    return b"root:x:0:0" in served


def wired(hyperd: Hyperd) -> bool:
    """Whether it has the cards and ports that it is said to have."""
    assert isinstance(hyperd, Crashing)
    told = hyperd.settings_of("victim")["Networks"].values()
    taps = [name for name in hyperd.namespace.links() if name.startswith("hyt-")]
    cards = hyperd.execute("victim", "ls", "/sys/class/net")[1].split()
    counts = {len(told), len(taps), len([name for name in cards if name.startswith("eth")])}
    ports = sorted(port["hostPort"] for port in hyperd.client.list_ports("victim"))
    return len(counts) == 1 and ports == leaks.listening(hyperd.namespace.name)


def clear(hyperd: Hyperd) -> None:
    """Remove the victim; nothing of it is left then."""
    try:
        hyperd.client.remove_container("victim", force=True, volumes=True)
    except NotFound:
        pass
    assert status(hyperd) == ""
    hyperd.nothing_left()
    assert isinstance(hyperd, Crashing)
    namespace, quiet = hyperd.namespace.name, hyperd.quiet
    try:
        wait_until(lambda: leaks.network(namespace) == quiet, "the network as it was")
    except AssertionError:
        now = leaks.network(namespace)
        more = {key: now[key] ^ quiet[key] for key in quiet if now[key] != quiet[key]}
        raise AssertionError(f"of the network is left, or missing: {more}") from None
    kept = [path.name for path in (hyperd.root / "volumes").iterdir()]
    assert set(kept) <= {"kept"}, kept
