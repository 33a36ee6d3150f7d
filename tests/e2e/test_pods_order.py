"""Health checks, and containers that wait for others, in real VMs."""

import signal
import threading
import time
from functools import partial
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, Conflict
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(180)

_UPTIME = "cut -d' ' -f1 /proc/uptime"
_SLEEP = {"image": "busybox", "command": ["sleep", "1000"]}
_QUICK = {"interval": 0.2, "timeout": 20, "retries": 2}


def _container(name: str, command: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": ["sh", "-c", command], **keys}


def _create(hyperd: Hyperd, *containers: dict[str, Any]) -> str:
    return hyperd.client.create_pod({"id": "order", "containers": list(containers)})["ID"]


def _health(hyperd: Hyperd, container: str, wanted: str) -> bool:
    return bool(hyperd.state_of(container).get("Health", {}).get("Status") == wanted)


def test_health_comes_and_goes(hyperd: Hyperd) -> None:
    health = {"test": "test -e /ok && echo fine", **_QUICK}
    container = hyperd.run("sleep", "1000", health=health)
    wait_until(partial(_health, hyperd, container, "unhealthy"), "the first verdict", 60)
    assert hyperd.state_of(container)["Health"]["FailingStreak"] >= 2
    assert hyperd.execute(container, "touch", "/ok")[0] == 0
    wait_until(partial(_health, hyperd, container, "healthy"), "health", 60)
    last = hyperd.state_of(container)["Health"]["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (0, "fine\n")
    (listed,) = (c for c in hyperd.client.list_containers() if c["Id"] == container)
    assert listed["Status"].endswith(" (healthy)")
    hyperd.client.remove_container(container, force=True)


def test_a_check_that_hangs_is_a_failure(hyperd: Hyperd) -> None:
    health = {"test": ["CMD", "sleep", "1000"], "interval": 0.2, "timeout": 0.5, "retries": 1}
    container = hyperd.run("sleep", "1000", health=health)
    wait_until(partial(_health, hyperd, container, "unhealthy"), "the verdict", 60)
    log = hyperd.state_of(container)["Health"]["Log"]
    assert "did not end within 0.5 s" in log[0]["Output"]
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


def test_containers_start_after_what_they_need(hyperd: Hyperd) -> None:
    ready = {"test": "test -e /ready", **_QUICK, "startPeriod": 60}
    pod = _create(
        hyperd,
        _container(
            "web",
            f"{_UPTIME}; sleep 1000",
            depends=[
                {"name": "db", "condition": "healthy"},
                {"name": "init", "condition": "completed"},
            ],
        ),
        _container("db", f"sleep 1; touch /ready; {_UPTIME}; sleep 1000", health=ready),
        _container("init", f"sleep 1; {_UPTIME}"),
    )
    hyperd.client.start_pod(pod)
    wait_until(lambda: bool(hyperd.output_of("web")), "its output")
    web, db, init = (float(hyperd.output_of(name)) for name in ("web", "db", "init"))
    assert web > max(db, init)
    assert hyperd.state_of("init")["ExitCode"] == 0
    hyperd.client.remove_pod(pod, force=True)
    hyperd.nothing_left()


def test_what_is_needed_may_fail(hyperd: Hyperd) -> None:
    pod = _create(
        hyperd,
        _container("init", "exit 3"),
        _container("side", "sleep 1000"),
        _container("web", "true", depends=[{"name": "init", "condition": "completed"}]),
    )
    with pytest.raises(Conflict, match="web depends on init, which has ended with 3"):
        hyperd.client.start_pod(pod)
    assert "has ended with 3" in hyperd.state_of("web")["Error"]
    assert hyperd.state_of("side")["Status"] == "running"
    hyperd.client.remove_pod(pod, force=True)
    hyperd.nothing_left()


def test_a_start_that_waits_can_be_stopped(hyperd: Hyperd) -> None:
    pod = _create(
        hyperd,
        _container("slow", "trap 'exit 1' TERM; while true; do sleep 0.1; done"),
        _container("web", "true", depends=[{"name": "slow", "condition": "completed"}]),
    )
    failures: list[Exception] = []

    def start() -> None:
        try:
            hyperd.client.start_pod(pod)
        except Conflict as error:
            failures.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    wait_until(lambda: hyperd.state_of("slow")["Status"] == "running", "slow", 60)
    time.sleep(0.3)
    hyperd.client.stop_pod(pod)
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert len(failures) == 1
    hyperd.client.remove_pod(pod)
    hyperd.nothing_left()


def test_circles_and_strangers_are_refused(hyperd: Hyperd) -> None:
    with pytest.raises(BadRequest, match="depends goes in a circle: a -> b -> a"):
        _create(hyperd, _container("a", "x", depends=["b"]), _container("b", "x", depends=["a"]))
    with pytest.raises(BadRequest, match=r"containers\[0\].depends\[0\]: the pod has no .* 'c'"):
        _create(hyperd, _container("a", "x", depends=["c"]))


def _needed(hyperd: Hyperd, container: str) -> list[str]:
    """The names of the containers that start with one that needs them."""
    hyperd.client.start_container(container)
    listed = {c["Names"][0].lstrip("/") for c in hyperd.client.list_containers()}
    hyperd.client.stop_pod("order", timeout=0)
    return sorted(listed)


def test_what_is_needed_stays_or_is_needed_no_longer(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    _create(
        hyperd,
        _container("db", "sleep 1000"),
        _container("web", "sleep 1000", depends=["db"]),
        _container("top", "sleep 1000", depends=[{"name": "web", "condition": "started"}]),
    )
    with pytest.raises(Conflict, match="container web depends on db: remove it first"):
        hyperd.client.remove_container("db")
    hyperd.client.rename_container("db", "store")
    hyperd.end(signal.SIGKILL)
    hyperd.start()
    assert _needed(hyperd, "web") == ["store", "web"]
    hyperd.client.remove_container("web", force=True)
    added = {**_SLEEP, "name": "late", "depends": ["store"]}
    hyperd.client.create_container("order", added)
    assert _needed(hyperd, "late") == ["late", "store"]
    hyperd.end(signal.SIGKILL)
    hyperd.start()
    assert _needed(hyperd, "top") == ["top"]
    removed = hyperd.client.prune_containers()["ContainersDeleted"]
    assert len(removed) == 3, "those that are needed after those that need them"
    hyperd.nothing_left()
