"""Whoever follows a container ends with it, whatever it was that died."""

import os
import signal
import subprocess

import pytest

from tests.e2e.command_line import Hyper, until
from tests.e2e.hyperd_process import Hyperd

pytestmark = pytest.mark.timeout(120)

SHELL = "echo ready; while read line; do echo got $line; done"


def _followers(hyper: Hyper, name: str) -> dict[str, "subprocess.Popen[bytes]"]:
    """What people do with a container, each of which would go on for ever."""
    commands = {
        "attach": ("attach", name),
        "exec": ("exec", "-i", name, "sh", "-c", SHELL),
        "vm": ("exec", "-mi", name, "sh", "-c", SHELL),
        "logs": ("logs", "-f", name),
        "wait": ("wait", name),
    }
    started = {key: hyper.start(*command) for key, command in commands.items()}
    for key in ("exec", "vm", "logs"):
        output = started[key].stdout
        assert output is not None and output.readline() == b"ready\n", key
    return started


@pytest.mark.parametrize("victim", ["VmmPid", "Pid"])
def test_a_dead_vm_or_sandbox_unblocks_everyone(hyperd: Hyperd, victim: str) -> None:
    hyper = Hyper(hyperd.socket)
    name = f"dies-{victim.lower()}"
    hyper.text("run", "-di", "--name", name, "busybox", "sh", "-c", SHELL)
    followers = _followers(hyper, name)
    stats = hyperd.client.stats([name])
    assert next(stats)[0]["memory_stats"]["usage"] > 0
    os.kill(hyperd.vm_of(name)[victim], signal.SIGKILL)
    ended = {key: process.communicate(timeout=40) for key, process in followers.items()}
    assert {key: process.returncode for key, process in followers.items()} == {
        "attach": 137,
        "exec": 137,
        "vm": 137,
        "logs": 0,
        "wait": 0,
    }, ended
    assert ended["wait"][0] == b"137\n"
    state = hyperd.state_of(name)
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 137, False)
    assert state["Reason"] and not state["Reason"].startswith("signal"), state
    while next(stats)[0]["memory_stats"]:
        pass
    assert hyper("logs", name).stdout == b"ready\n"
    hyper.text("rm", name)
    assert not any(tick[0]["memory_stats"] for tick in stats), "they end with the container"
    hyperd.nothing_left()


def test_a_dead_hyperd_unblocks_its_clients(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    hyper = Hyper(hyperd.socket)
    hyper.text("run", "-di", "--name=stays", "busybox", "sh", "-c", SHELL)
    followers = _followers(hyper, "stays")
    followers["events"] = hyper.start("events", "--since", "1h")
    events = followers["events"].stdout
    assert events is not None and events.readline()
    hyperd.end(signal.SIGKILL)
    for key, process in followers.items():
        process.communicate(timeout=20)
        assert process.returncode != 0, key
    hyperd.start()
    assert hyper.text("exec", "stays", "echo", "on") == "on"
    hyper.text("rm", "-f", "stays")


def test_reasons_of_deaths(hyperd: Hyperd) -> None:
    """Exit code 137 says nothing by itself: the reason does."""
    hyper = Hyper(hyperd.socket)
    stubborn = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    for name in ("killed", "stopped", "itself"):
        script = "sh -c 'kill -9 $$'; exit $?" if name == "itself" else stubborn
        hyper.text("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    until(lambda: hyper("logs", "stopped").stdout == b"up\n")
    hyper.text("kill", "killed")
    hyper.text("stop", "-t", "1", "stopped")
    assert hyper.text("wait", "killed", "stopped", "itself") == "137\n137\n137"
    reasons = {n: hyperd.state_of(n)["Reason"] for n in ("killed", "stopped", "itself")}
    assert reasons == {
        "killed": "signal 9: killed on request",
        "stopped": "killed: it did not stop within 1 s",
        "itself": "",
    }
    hyper.text("rm", "-f", "killed", "stopped", "itself")


def test_what_does_not_start_stays_with_its_log(hyperd: Hyperd) -> None:
    """A container that ends at once, or does not start, is there to be looked at."""
    hyper = Hyper(hyperd.socket)
    done = hyper("run", "--name=crash", "busybox", "sh", "-c", "echo why >&2; exit 3")
    assert (done.returncode, done.stderr) == (3, b"why\n")
    assert hyper("run", "--name=none", "busybox", "nonesuch").returncode == 127
    lines = hyper.text("list", "-a").splitlines()[1:]
    assert len(lines) == 2
    assert hyper("logs", "crash").stderr == b"why\n"
    assert hyper("logs", "none").returncode == 0
    assert "nonesuch" in hyperd.state_of("none")["Error"]
    hyper.text("rm", "crash", "none")
