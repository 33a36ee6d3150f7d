"""What containerd is told: every event once, in order."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.commands import until
from tests.engines.containerd import Containerd


class Events:
    """`ctr events`, to a file."""

    def __init__(self, engine: Containerd, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._process = subprocess.Popen(
            ["ctr", "--address", f"{engine.directory}/c.sock", "events"], stdout=self._file
        )
        # It says nothing of when it listens: an event that is heard does.
        until(lambda: self._heard_one(engine), "events")

    def _heard_one(self, engine: Containerd) -> bool:
        engine.check("namespaces", "label", "default", f"n={len(self._path.read_bytes())}")
        return b"/namespaces/update" in self._path.read_bytes()

    def tasks(self, cid: str) -> list[tuple[str, dict[str, Any]]]:
        """The topics of a task's events with their contents."""
        found = []
        for line in self._path.read_text().splitlines():
            *_, topic, text = line.split(" ", 6)[-2:] if "/tasks/" in line else ("", "")
            if topic and json.loads(text).get("container_id") == cid:
                found.append((topic.removeprefix("/tasks/"), json.loads(text)))
        return found

    def topics(self, cid: str) -> list[str]:
        """The topics alone."""
        return [topic for topic, _ in self.tasks(cid)]

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._file.close()


@pytest.fixture
def events(containerd: Containerd, tmp_path: Path) -> Iterator[Events]:
    found = Events(containerd, tmp_path / "events")
    yield found
    found.close()


def test_events_of_a_life(containerd: Containerd, events: Events) -> None:
    cid = containerd.start("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    assert containerd.ctr("task", "exec", "--exec-id", "x", cid, "sh", "-c", "exit 3").code == 3
    containerd.check("task", "pause", cid)
    containerd.check("task", "resume", cid)
    containerd.check("task", "kill", "-s", "TERM", cid)
    until(lambda: "STOPPED" in containerd.check("task", "ls"), "the end")
    containerd.ctr("task", "delete", cid)
    until(lambda: "delete" in events.topics(cid), "the last event")
    life = ["create", "start", "exec-added", "exec-started", "exit", "paused", "resumed"]
    assert events.topics(cid) == [*life, "exit", "delete"]
    exits = [event for topic, event in events.tasks(cid) if topic == "exit"]
    assert [(e["id"], e["exit_status"]) for e in exits] == [("x", 3), (cid, 7)]


def test_executed_processes_end_before_the_first(containerd: Containerd, events: Events) -> None:
    cid = containerd.start("sleep", "1000")
    names = ["a", "b", "c"]
    for name in names:
        containerd.check("task", "exec", "-d", "--exec-id", name, cid, "sleep", "1000")
    containerd.check("task", "kill", "-s", "KILL", cid)
    until(lambda: events.topics(cid).count("exit") == 4, "four exits")
    exits = [event for topic, event in events.tasks(cid) if topic == "exit"]
    assert exits[-1]["id"] == cid
    assert {e["id"] for e in exits[:-1]} == set(names)
    assert {e["exit_status"] for e in exits} == {137}


def test_a_short_program_starts_before_it_ends(containerd: Containerd, events: Events) -> None:
    for _ in range(3):
        cid = containerd.new_id()
        containerd.check(*containerd.run_arguments(cid, "--rm"), "true")
        until(lambda: "delete" in events.topics(cid), "the last event")  # noqa: B023
        assert events.topics(cid) == ["create", "start", "exit", "delete"]


def test_memory_that_runs_out(containerd: Containerd, events: Events) -> None:
    cid = containerd.new_id()
    options = ("-d", "--memory-limit", str(32 << 20))
    program = "x=1; while :; do x=$x$x; done"
    containerd.check(*containerd.run_arguments(cid, *options), "sh", "-c", program)
    until(lambda: "exit" in events.topics(cid), "the end")
    assert events.topics(cid) == ["create", "start", "oom", "exit"]
