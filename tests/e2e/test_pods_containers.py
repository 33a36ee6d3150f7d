"""Several containers in one VM: made, started, ended and removed one by one."""

import os
import signal

import pytest

from hypercontainer.errors import BadRequest, Conflict, NotFound
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(180)

_SLEEP = {"image": "busybox", "command": ["sleep", "1000"]}


def _pod(hyperd: Hyperd, **keys: object) -> tuple[str, list[str]]:
    created = hyperd.client.create_pod({"containers": [_SLEEP, _SLEEP], **keys})
    return created["ID"], created["Containers"]


def test_containers_join_and_leave_a_running_pod(hyperd: Hyperd) -> None:
    pod, (first, second) = _pod(hyperd)
    assert hyperd.vm_of(first)["Pid"] == 0, "a created pod costs no VM"
    hyperd.client.start_pod(pod)
    vm = hyperd.vm_of(first)["VmmPid"]
    added = hyperd.client.create_container(pod, {**_SLEEP, "name": "third"})
    assert hyperd.state_of(added)["Status"] == "created"
    hyperd.client.start_container(added)
    assert hyperd.vm_of(added)["VmmPid"] == hyperd.vm_of(second)["VmmPid"] == vm
    code, output = hyperd.execute(added, "hostname")
    assert (code, output.strip()) == (0, pod)

    hyperd.client.stop_container(second, timeout=0)
    assert hyperd.state_of(second)["ExitCode"] == 137
    hyperd.client.remove_container(second)
    with pytest.raises(NotFound):
        hyperd.client.inspect_container(second)
    hyperd.client.start_container(hyperd.client.create_container(pod, _SLEEP))
    assert hyperd.execute(first, "true")[0] == 0
    hyperd.client.stop_container(first, timeout=0)
    hyperd.client.start_container(first)
    assert hyperd.vm_of(first)["VmmPid"] == vm, "the VM goes on while a container lives"
    hyperd.client.remove_pod(pod, force=True)
    hyperd.nothing_left()


def test_what_cannot_be_added(hyperd: Hyperd) -> None:
    pod, (first, _) = _pod(hyperd)
    name = hyperd.client.inspect_container(first)["Name"].lstrip("/")
    with pytest.raises(NotFound, match="no such pod: none"):
        hyperd.client.create_container("none", _SLEEP)
    with pytest.raises(NotFound, match="nonesuch"):
        hyperd.client.create_container(pod, {"image": "nonesuch"})
    with pytest.raises(BadRequest, match=r"containers\[2\].tyt: unknown key: did you mean tty"):
        hyperd.client.create_container(pod, {**_SLEEP, "tyt": True})
    with pytest.raises((BadRequest, Conflict), match=r"twice|in use"):
        hyperd.client.create_container(pod, {**_SLEEP, "name": name})
    assert len(hyperd.client.pod_info(pod)["spec"]["containers"]) == 2
    hyperd.client.remove_pod(pod)


def test_an_added_container_is_there_after_hyperds_death(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    pod, (first, second) = _pod(hyperd)
    hyperd.client.start_pod(pod)
    added = hyperd.client.create_container(pod, {**_SLEEP, "name": "added", "tty": True})
    hyperd.client.start_container(added)
    hyperd.client.remove_container(second, force=True)
    hyperd.end(signal.SIGKILL)
    hyperd.start()
    listed = {c["Id"]: c["State"] for c in hyperd.client.list_containers(all=True)}
    assert listed == {first: "running", added: "running"}
    assert hyperd.client.inspect_container(added)["Config"]["Tty"] is True
    assert hyperd.execute(added, "true")[0] == 0
    os.kill(hyperd.vm_of(first)["VmmPid"], signal.SIGKILL)
    wait_until(lambda: not hyperd.client.list_containers(), "their end")
    assert hyperd.state_of(added)["Reason"] == "QEMU was killed by signal 9"
    hyperd.client.remove_pod(pod)
