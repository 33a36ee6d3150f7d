"""Restart policies, with real VMs: counted, stopped by users, kept by the next hyperd."""

import os
import signal
from functools import partial

import pytest

from hypercontainer.errors import BadRequest
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(180)


def _status(hyperd: Hyperd, container: str) -> str:
    return str(hyperd.state_of(container)["Status"])


def _runs(hyperd: Hyperd, container: str) -> bool:
    return _status(hyperd, container) == "running"


def _count(hyperd: Hyperd, container: str) -> int:
    return int(hyperd.client.inspect_container(container)["RestartCount"])


def test_failures_are_repeated_as_often_as_the_policy_says(hyperd: Hyperd) -> None:
    container = hyperd.run("sh", "-c", "echo again; exit 3", restartPolicy="on-failure:2")
    wait_until(lambda: _count(hyperd, container) == 2, "two restarts", 60)
    wait_until(lambda: _status(hyperd, container) == "exited", "the end", 60)
    assert hyperd.output_of(container) == "again\n" * 3
    assert hyperd.state_of(container)["ExitCode"] == 3
    policy = hyperd.client.inspect_container(container)["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 2}
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


def test_a_success_is_not_repeated_on_failure(hyperd: Hyperd) -> None:
    container = hyperd.run("true", restartPolicy="on-failure")
    assert hyperd.client.wait(container) == 0
    assert _status(hyperd, container) == "exited"
    hyperd.client.remove_container(container)


def test_a_stop_holds_and_a_killed_vm_does_not(hyperd: Hyperd) -> None:
    container = hyperd.run("sleep", "1000", restartPolicy="always")
    os.kill(hyperd.vm_of(container)["VmmPid"], signal.SIGKILL)
    wait_until(lambda: _count(hyperd, container) == 1, "a restart", 60)
    wait_until(lambda: _status(hyperd, container) == "running", "it running", 60)
    hyperd.client.stop_container(container, timeout=0)
    assert _status(hyperd, container) == "exited"
    assert hyperd.state_of(container)["Restarting"] is False
    hyperd.client.start_container(container)
    assert _count(hyperd, container) == 0
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


def test_a_container_that_waits_for_its_restart_can_be_stopped_and_removed(hyperd: Hyperd) -> None:
    container = hyperd.run("false", restartPolicy="always")
    wait_until(lambda: _count(hyperd, container) >= 3, "three restarts", 60)
    wait_until(lambda: _status(hyperd, container) == "restarting", "a pause", 60)
    listed = {c["Id"]: c["Status"] for c in hyperd.client.list_containers()}
    assert listed[container].startswith("Restarting (1) ") or _count(hyperd, container) > 3
    hyperd.client.stop_container(container, timeout=0)
    assert _status(hyperd, container) == "exited"
    hyperd.client.remove_container(container)
    hyperd.nothing_left()


def test_policies_hold_over_hyperds_death(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    always = hyperd.run("sleep", "1000", restartPolicy="always")
    stopped = hyperd.run("sleep", "1000", restartPolicy="unless-stopped")
    failing = hyperd.run("sh", "-c", "sleep 1000; exit 1", restartPolicy="on-failure")
    hyperd.client.stop_container(stopped, timeout=0)
    hyperd.end(signal.SIGKILL)
    for container in (always, failing):
        os.kill(_vmm(hyperd, container), signal.SIGKILL)
    hyperd.start()
    for container in (always, failing):
        wait_until(partial(_runs, hyperd, container), "a restart", 60)
        assert _count(hyperd, container) == 1
    assert _status(hyperd, stopped) == "exited"


def _vmm(hyperd: Hyperd, container: str) -> int:
    from hypercontainer.sandbox import read_state

    for directory in (hyperd.state / "sandboxes").iterdir():
        state = read_state(directory)
        if state is not None and container in state["containers"]:
            return int(state["vmm_pid"])
    raise AssertionError(f"no sandbox has {container}")


def test_a_policy_and_auto_remove_exclude_each_other(hyperd: Hyperd) -> None:
    with pytest.raises(BadRequest, match=r"containers\[0\].restartPolicy: always and autoRemove"):
        hyperd.create("true", restartPolicy="always", pod_autoRemove=True)
