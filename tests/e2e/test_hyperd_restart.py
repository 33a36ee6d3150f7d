"""Nothing is lost when hyperd, a VM or a sandbox dies."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.sandbox import read_state
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(150)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_containers_outlive_hyperd(own_hyperd: Hyperd, signum: int) -> None:
    hyperd = own_hyperd
    script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done"
    lives = hyperd.run("sh", "-c", script, name="lives")
    ends = hyperd.run("sh", "-c", "sleep 1; echo last words; exit 5", name="ends")
    removed = hyperd.run("sleep", "1", pod_autoRemove=True)
    vmm = hyperd.vm_of(lives)["VmmPid"]
    hyperd.end(signum)
    sandbox = hyperd.state / "sandboxes/ends"
    wait_until(lambda: not (read_state(sandbox) or {"alive": False})["alive"], "the end")
    time.sleep(1)

    hyperd.start()
    listed = {c["Names"][0]: c["State"] for c in hyperd.client.list_containers(all=True)}
    assert listed == {"/lives": "running", "/ends": "exited"}
    state = hyperd.state_of(ends)
    assert (state["ExitCode"], state["Error"], state["Reason"]) == (5, "", "")
    assert hyperd.client.wait(ends) == 5
    assert hyperd.output_of(ends) == "last words\n"
    with pytest.raises(HyperError):
        hyperd.client.inspect_container(removed)

    assert hyperd.vm_of(lives)["VmmPid"] == vmm
    assert hyperd.execute("lives", "echo", "hi") == (0, "hi\n")
    lines = hyperd.output_of("lives").split()
    assert lines == [str(n) for n in range(len(lines))], "output of the time between is there"
    with hyperd.client.attach("lives") as stream:
        assert stream.read()
    hyperd.client.stop_container("lives", 1)
    assert hyperd.state_of("lives")["ExitCode"] == 137
    hyperd.client.start_container("ends")
    hyperd.client.remove_container("ends", force=True)
    hyperd.client.remove_container("lives")
    hyperd.nothing_left()


def test_killed_while_it_starts_a_container(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    hyperd.end(signal.SIGKILL)
    # A boot takes long enough to be killed in; a clone may be over.
    hyperd.config.write_text("Template = off\n")
    hyperd.start()
    container = hyperd.create("sh", "-c", "echo hi", name="half")
    starting = threading.Thread(target=ignoring_errors(hyperd, container))
    starting.start()
    wait_until(lambda: hyperd.state_of(container)["Status"] == "starting", "the start")
    hyperd.end(signal.SIGKILL)
    starting.join(timeout=20)

    hyperd.start()
    state = hyperd.state_of(container)
    assert (state["Status"], state["ExitCode"]) == ("exited", 125)
    assert state["Error"] == "hyperd was killed while it started the container"
    hyperd.nothing_left()
    hyperd.client.start_container(container)
    assert hyperd.client.wait(container) == 0
    assert hyperd.output_of(container) == "hi\n"
    hyperd.client.remove_container(container)


def ignoring_errors(hyperd: Hyperd, container: str) -> Callable[[], None]:
    def start() -> None:
        try:
            hyperd.client.start_container(container)
        except (HyperError, OSError):
            pass

    return start


def test_what_a_crash_left_is_cleared(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    kept = hyperd.create("true")
    hyperd.end(signal.SIGKILL)
    for path in (hyperd.root / "containers" / ("a" * 64), hyperd.state / "sandboxes/nobody"):
        path.mkdir(parents=True)
        (path / "something").write_text("x")
    hyperd.start()
    hyperd.nothing_left()
    assert [c["Id"] for c in hyperd.client.list_containers(all=True)] == [kept]


@pytest.mark.parametrize("victim", ["VmmPid", "Pid"])
def test_a_killed_vm(own_hyperd: Hyperd, victim: str) -> None:
    hyperd = own_hyperd
    container = hyperd.create("sh", "-c", "echo up; sleep 100")
    with hyperd.client.attach(container) as stream:
        hyperd.client.start_container(container)
        said = b""
        while not said.endswith(b"up\n"):
            piece = stream.read()
            assert piece, said
            said += piece
        os.kill(hyperd.vm_of(container)[victim], signal.SIGKILL)
        assert stream.read() == b"", "who is attached is told"
    assert hyperd.client.wait(container) == 137
    state = hyperd.state_of(container)
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 137, False)
    assert "killed" in state["Reason"]
    hyperd.nothing_left()
    hyperd.client.start_container(container)
    hyperd.client.kill_container(container)
    assert hyperd.client.wait(container) == 137
    assert hyperd.state_of(container)["Reason"] == "signal 9: killed on request"
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


def test_a_vm_killed_while_hyperd_is_away(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    container = hyperd.run("sleep", "100")
    sandbox = hyperd.vm_of(container)["Pid"]
    hyperd.end(signal.SIGKILL)
    os.kill(sandbox, signal.SIGKILL)
    hyperd.start()
    state = hyperd.state_of(container)
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert state["Reason"] == "the sandbox process was killed"
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


def test_a_kernel_that_does_not_boot(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    hyperd.end()
    (hyperd.root / "kernel").write_bytes(b"no kernel" * 1000)
    hyperd.config.write_text(f"Kernel = {hyperd.root}/kernel\nBootTimeout = 10\nAccel = tcg\n")
    hyperd.start()
    container = hyperd.create("true")
    begun = time.monotonic()
    with pytest.raises(HyperError, match="the virtual machine did not start") as caught:
        hyperd.client.start_container(container)
    assert caught.value.exit_code == 125
    assert time.monotonic() - begun < 30
    assert "did not start" in hyperd.state_of(container)["Error"]
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


@pytest.mark.parametrize(
    ("variable", "says"),
    [("HYPER_CACHE", "no guest kernel found"), ("PATH", "qemu-system-x86_64")],
)
def test_what_is_missing_is_named(own_hyperd: Hyperd, variable: str, says: str) -> None:
    hyperd = own_hyperd
    hyperd.client.run("busybox", ["true"])
    hyperd.end()
    hyperd.environment = {variable: str(hyperd.root / "nothing-there")}
    hyperd.start()
    container = hyperd.create("true")
    with pytest.raises(HyperError, match=says) as caught:
        hyperd.client.start_container(container)
    assert caught.value.exit_code == 125
    assert "\n" not in caught.value.message
    assert says in hyperd.state_of(container)["Error"]
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


def test_no_space_for_a_disk(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    containers = hyperd.root / "containers"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", containers], check=True, timeout=10
    )
    try:
        container = hyperd.create("true")
        with pytest.raises(HyperError, match="space") as caught:
            hyperd.client.start_container(container)
        assert caught.value.code == "no_space"
        hyperd.client.remove_container(container)
        hyperd.nothing_left()
    finally:
        subprocess.run(["umount", containers], check=True, timeout=10)


def test_killed_at_any_moment(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    moments = random.Random(7)
    for round_ in range(6):
        threads = [
            threading.Thread(target=busy, args=(hyperd, f"c{n}-{round_}", n == 0)) for n in range(2)
        ]
        for thread in threads:
            thread.start()
        time.sleep(moments.uniform(0.05, 2.5))
        hyperd.end(signal.SIGKILL)
        for thread in threads:
            thread.join(timeout=30)
        hyperd.start()
        for container in hyperd.client.list_containers(all=True):
            state = hyperd.state_of(container["Id"])
            assert state["Status"] in ("created", "running", "exited"), state
            if state["Status"] == "running":
                assert hyperd.execute(container["Id"], "echo", "hi") == (0, "hi\n")
            elif moments.random() < 0.5:
                hyperd.client.start_container(container["Id"])
            hyperd.client.remove_container(container["Id"], force=True)
        hyperd.nothing_left()


def busy(hyperd: Hyperd, name: str, auto_remove: bool) -> None:
    """Lead a container's life until hyperd is gone."""
    client = hyperd.client
    try:
        for number in range(9):
            container = hyperd.create(
                "sleep", "9", name=f"{name}-{number}", pod_autoRemove=auto_remove
            )
            client.start_container(container)
            client.stop_container(container, 0)
            if not auto_remove:
                client.remove_container(container)
    except (HyperError, OSError):
        pass
