"""A QEMU or a sandbox killed in each state of its container: everybody hears, nothing is left."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.sandbox import read_state
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(150)

VICTIMS = {"vmm": ("VmmPid", "QEMU was killed by signal 9"), "sandbox": ("Pid", "was killed")}


def kill(hyperd: Hyperd, container: str, victim: str) -> None:
    os.kill(hyperd.vm_of(container)[VICTIMS[victim][0]], signal.SIGKILL)


def beside(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Call it in a thread; the list gets its result, or its error."""
    results: list[Any] = []

    def call() -> None:
        try:
            results.append(work())
        except (HyperError, OSError) as error:
            results.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread, results


def ended_by(hyperd: Hyperd, container: str, victim: str) -> None:
    """It is exited, says why, and can be started again and removed."""
    assert hyperd.client.wait(container) == 137
    state = hyperd.state_of(container)
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert VICTIMS[victim][1] in state["Reason"], state
    hyperd.nothing_left()
    hyperd.client.start_container(container)
    assert hyperd.execute(container, "echo", "again") == (0, "again\n")
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


@pytest.mark.parametrize("victim", VICTIMS)
def test_while_others_wait_for_it(hyperd: Hyperd, victim: str) -> None:
    container = hyperd.run("sh", "-c", "echo up; exec sleep 1000")
    client = hyperd.client
    wait_until(lambda: hyperd.output_of(container) == "up\n", "its output")
    following = beside(lambda: hyperd.output_of(container, follow=True))
    executing = beside(lambda: hyperd.execute(container, "sleep", "1000"))
    waiting = beside(lambda: client.wait(container))
    wait_until(lambda: "sleep 1000" in str(client.inspect_container(container)), "its command")
    time.sleep(0.3)
    kill(hyperd, container, victim)
    for thread, _ in (following, executing, waiting):
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert following[1] == ["up\n"]
    assert waiting[1] == [137]
    (executed,) = executing[1]
    assert isinstance(executed, HyperError) or executed[0] == 137, executed
    ended_by(hyperd, container, victim)


@pytest.mark.parametrize("victim", VICTIMS)
def test_while_it_is_paused(hyperd: Hyperd, victim: str) -> None:
    container = hyperd.run("sleep", "1000")
    hyperd.client.pause_container(container)
    kill(hyperd, container, victim)
    ended_by(hyperd, container, victim)


@pytest.mark.parametrize("victim", VICTIMS)
def test_while_it_is_being_stopped(hyperd: Hyperd, victim: str) -> None:
    container = hyperd.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    stopping, result = beside(lambda: hyperd.client.stop_container(container, 60))
    time.sleep(0.5)
    begun = time.monotonic()
    kill(hyperd, container, victim)
    stopping.join(timeout=40)
    assert not stopping.is_alive()
    assert time.monotonic() - begun < 30
    assert not isinstance(result[0], Exception), result
    ended_by(hyperd, container, victim)


@pytest.mark.parametrize("victim", VICTIMS)
def test_while_it_starts(own_hyperd: Hyperd, victim: str) -> None:
    hyperd = own_hyperd
    hyperd.end()
    # A boot takes long enough to be killed in; a clone may be over.
    hyperd.config.write_text("Template = off\n")
    hyperd.start()
    container = hyperd.create("sleep", "1000", name="starts")
    starting, result = beside(lambda: hyperd.client.start_container(container))
    directory = hyperd.state / "sandboxes/starts"
    pid = {"vmm": "vmm_pid", "sandbox": "pid"}[victim]
    wait_until(lambda: bool((read_state(directory) or {}).get(pid)), "its VM")
    os.kill((read_state(directory) or {})[pid], signal.SIGKILL)
    starting.join(timeout=60)
    assert not starting.is_alive()
    assert isinstance(result[0], HyperError), result
    state = hyperd.state_of(container)
    assert (state["Status"], state["ExitCode"]) == ("exited", 125), state
    assert state["Error"] == result[0].message
    hyperd.nothing_left()
    hyperd.client.start_container(container)
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


def test_one_that_is_to_be_restarted(hyperd: Hyperd) -> None:
    container = hyperd.run("sleep", "1000", restartPolicy="on-failure")
    first = hyperd.vm_of(container)["VmmPid"]
    kill(hyperd, container, "vmm")

    def runs_again() -> bool:
        about = hyperd.client.inspect_container(container)
        return bool(about["State"]["Status"] == "running" and about["VM"]["VmmPid"] != first)

    wait_until(runs_again, "its restart", 60)
    assert hyperd.client.inspect_container(container)["RestartCount"] == 1
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()
