"""The database of hyperd."""

import sqlite3
from pathlib import Path

import pytest

from hypercontainer.errors import Conflict, HyperError, NoSpace
from hypercontainer.pods.model import Container, Pod, Status, now
from hypercontainer.pods.names import check_name, container_id, random_name
from hypercontainer.pods.spec import parse_pod, split_pod
from hypercontainer.pods.store import Store


def make(pod_id: str, *names: str) -> Pod:
    raw = {"id": pod_id, "containers": [{"name": name, "image": "i"} for name in names]}
    spec = parse_pod(raw)
    pod_raw, given = split_pod(raw, pod_id)
    pod = Pod(pod_id, spec, pod_raw, now())
    for item, one in zip(given, spec.containers, strict=True):
        config = {"Cmd": ["x"]}
        pod.containers.append(
            Container(container_id(), pod_id, one.name, one, "i", "sha256:1", config, now(), item)
        )
    return pod


def test_what_was_stored_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    pod = make("p", "a", "b")
    pod.containers[0].anonymous.append("v")
    store.add_pod(pod)
    state = pod.containers[1].state
    state.status, state.exit_code, state.reason = Status.EXITED, 137, "signal 9"
    store.save(*pod.containers)
    store.close()

    (loaded,) = Store(tmp_path / "db").load()
    assert (loaded.id, loaded.spec, loaded.raw) == (pod.id, pod.spec, pod.raw)
    assert [c.name for c in loaded.containers] == ["a", "b"]
    assert loaded.containers[0].anonymous == ["v"]
    assert loaded.containers[0].image_config == {"Cmd": ["x"]}
    assert loaded.containers[1].state == state
    assert loaded.containers[1].spec is loaded.spec.containers[1]


def test_positions_hold_when_a_container_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    pod = make("p", "a", "b", "c")
    store.add_pod(pod)
    store.remove_containers(pod.containers[1].id)
    (loaded,) = store.load()
    assert [(c.name, c.spec.name) for c in loaded.containers] == [("a", "a"), ("c", "c")]
    store.remove_pod("p")
    assert store.load() == []
    store.add_pod(make("p", "a"))


def test_containers_are_added(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    pod = make("p", "a", "b")
    store.add_pod(pod)
    store.remove_containers(pod.containers[1].id)
    store.add_container(make("p", "b").containers[0])
    store.add_container(make("p", "c").containers[0])
    (loaded,) = store.load()
    assert [c.spec.name for c in loaded.containers] == ["a", "b", "c"]
    with pytest.raises(Conflict):
        store.add_container(make("p", "a").containers[0])


def test_a_new_name_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    pod = make("p", "a")
    store.add_pod(pod)
    pod.containers[0].name = "other"
    store.save(pod.containers[0])
    (loaded,) = store.load()
    assert loaded.containers[0].name == loaded.containers[0].spec.name == "other"


# What the first release wrote.
_FIRST = """
CREATE TABLE pods (id TEXT PRIMARY KEY, spec TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;
CREATE TABLE containers (
    id TEXT PRIMARY KEY, pod TEXT NOT NULL REFERENCES pods (id) ON DELETE CASCADE,
    position INTEGER NOT NULL, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL,
    image_id TEXT NOT NULL, image_config TEXT NOT NULL, anonymous TEXT NOT NULL,
    state TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE (pod, position)
) STRICT;
INSERT INTO pods VALUES ('p', '{"id": "p", "hostname": "h", "Containers": [
    {"image": "i", "name": "a", "tty": true}, {"image": "i", "name": "b"}]}',
    '2026-01-01T00:00:00Z');
INSERT INTO containers VALUES ('2', 'p', 1, 'b', 'i', 'sha256:1', '{}', '[]',
    '{"status": "exited", "exit_code": 3}', '2026-01-01T00:00:00Z');
INSERT INTO containers VALUES ('1', 'p', 0, 'a', 'i', 'sha256:1', '{}', '["v"]',
    '{"status": "running", "pid": 7, "from_the_future": 1}', '2026-01-01T00:00:00Z');
PRAGMA user_version = 1;
"""


def test_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as db:
        db.executescript(_FIRST)
    db.close()
    Store(tmp_path / "db").close()
    (pod,) = Store(tmp_path / "db").load()
    assert (pod.id, pod.spec.hostname) == ("p", "h")
    found = [(c.id, c.name, c.spec.tty) for c in pod.containers]
    assert found == [("1", "a", True), ("2", "b", False)]
    assert pod.containers[1].state.exit_code == 3
    assert pod.containers[0].state.status == Status.RUNNING
    assert pod.containers[0].anonymous == ["v"]


def test_names_are_unique(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.add_pod(make("p", "a"))
    with pytest.raises(Conflict):
        store.add_pod(make("p", "b"))
    with pytest.raises(Conflict):
        store.add_pod(make("q", "b", "a"))
    assert [pod.id for pod in store.load()] == ["p"]


def test_a_commit_survives_the_death_of_the_writer(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.add_pod(make("p", "a"))
    # No close: another connection sees it, as after a SIGKILL.
    assert [pod.id for pod in Store(tmp_path / "db").load()] == ["p"]


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.add_pod(make("p", "a"))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    big = make("q", "b")
    big.containers[0].image_config["Env"] = ["x" * 100_000]
    with pytest.raises(NoSpace, match="write the database"):
        store.add_pod(big)
    assert [pod.id for pod in store.load()] == ["p"]


def test_a_newer_schema_and_rubbish_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "new") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(HyperError, match="has schema 99, this hyperd knows 2"):
        Store(tmp_path / "new")
    (tmp_path / "rubbish").write_bytes(b"no database" * 100)
    with pytest.raises(HyperError, match="rubbish: file is not a database"):
        Store(tmp_path / "rubbish")


def test_random_names_are_valid_and_free() -> None:
    taken: set[str] = set()
    for _ in range(300):
        name = random_name(taken.__contains__)
        assert name not in taken
        taken.add(check_name(name, "x"))
