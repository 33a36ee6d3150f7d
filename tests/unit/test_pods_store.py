"""The database of hyperd."""

import sqlite3
from pathlib import Path

import pytest

from hypercontainer.errors import Conflict, HyperError, NoSpace
from hypercontainer.pods.model import Container, Pod, Status, now
from hypercontainer.pods.names import check_name, container_id, random_name
from hypercontainer.pods.spec import parse_pod
from hypercontainer.pods.store import Store


def make(pod_id: str, *names: str) -> Pod:
    raw = {"id": pod_id, "containers": [{"name": name, "image": "i"} for name in names]}
    spec = parse_pod(raw)
    pod = Pod(pod_id, spec, raw, now())
    for name, one in zip(names, spec.containers, strict=True):
        pod.containers.append(
            Container(container_id(), pod_id, name, one, "i", "sha256:1", {"Cmd": ["x"]}, now())
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
    store.remove_container(pod.containers[1].id)
    (loaded,) = store.load()
    assert [(c.name, c.spec.name) for c in loaded.containers] == [("a", "a"), ("c", "c")]
    store.remove_pod("p")
    assert store.load() == []
    store.add_pod(make("p", "a"))


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
    with pytest.raises(HyperError, match="has schema 99, this hyperd knows 1"):
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
