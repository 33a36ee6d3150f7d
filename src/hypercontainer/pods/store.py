"""The database of hyperd: pods and containers in SQLite."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from ..errors import HyperError
from ..system.database import Database
from .model import Container, Pod, State
from .spec import parse_pod, split_pod

_FIRST = """
CREATE TABLE pods (
    id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    pod TEXT NOT NULL REFERENCES pods (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    image_id TEXT NOT NULL,
    image_config TEXT NOT NULL,
    anonymous TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (pod, position)
) STRICT;
"""


def _first(db: sqlite3.Connection) -> None:
    for statement in _FIRST.split(";"):
        db.execute(statement)


def _specs_by_container(db: sqlite3.Connection) -> None:
    """Each container has its own part of the specification: they can be added to a pod."""
    db.execute("ALTER TABLE containers ADD COLUMN spec TEXT NOT NULL DEFAULT '{}'")
    for pod_id, text in db.execute("SELECT id, spec FROM pods").fetchall():
        pod, containers = split_pod(json.loads(text), pod_id)
        db.execute("UPDATE pods SET spec = ? WHERE id = ?", (json.dumps(pod), pod_id))
        for position, container in enumerate(containers):
            db.execute(
                "UPDATE containers SET spec = ? WHERE pod = ? AND position = ?",
                (json.dumps(container), pod_id, position),
            )


_COLUMNS = (
    "id, pod, position, name, image, image_id, image_config, anonymous, state, created_at, spec"
)
_MARKS = ", ".join("?" * 11)

# The step at index N makes schema N + 1 of schema N.
_STEPS = (_first, _specs_by_container)
SCHEMA_VERSION = len(_STEPS)


class Store(Database):
    """Pods and containers. Every method commits before it returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the database. Raises HyperError when it can't be used."""
        super().__init__(path, _STEPS, "hyperd")

    def add_pod(self, pod: Pod) -> None:
        """Store a new pod with its containers."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO pods VALUES (?, ?, ?)", (pod.id, json.dumps(pod.raw), pod.created_at)
            )
            db.executemany(
                f"INSERT INTO containers ({_COLUMNS}) VALUES ({_MARKS})",
                [_row(c, position) for position, c in enumerate(pod.containers)],
            )

    def add_container(self, container: Container) -> None:
        """Store a new container of a pod that is stored."""
        with self.transaction() as db:
            (position,) = db.execute(
                "SELECT coalesce(max(position), -1) + 1 FROM containers WHERE pod = ?",
                (container.pod_id,),
            ).fetchone()
            db.execute(
                f"INSERT INTO containers ({_COLUMNS}) VALUES ({_MARKS})",
                _row(container, position),
            )

    def save(self, *containers: Container) -> None:
        """Store the states of containers, all or none."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE containers SET state = ?, name = ? WHERE id = ?",
                [(json.dumps(c.state.to_json()), c.name, c.id) for c in containers],
            )

    def save_pod(self, pod: Pod) -> None:
        """Store the changed specification of a pod."""
        with self.transaction() as db:
            db.execute("UPDATE pods SET spec = ? WHERE id = ?", (json.dumps(pod.raw), pod.id))

    def save_spec(self, pod: Pod, container: Container) -> None:
        """Store the changed specifications of a pod and one of its containers."""
        with self.transaction() as db:
            db.execute("UPDATE pods SET spec = ? WHERE id = ?", (json.dumps(pod.raw), pod.id))
            db.execute(
                "UPDATE containers SET spec = ? WHERE id = ?",
                (json.dumps(container.raw), container.id),
            )

    def remove_pod(self, pod_id: str) -> None:
        """Forget a pod and its containers."""
        with self.transaction() as db:
            db.execute("DELETE FROM pods WHERE id = ?", (pod_id,))

    def save_specs(self, *containers: Container) -> None:
        """Store the changed names and specifications of containers, all or none."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE containers SET spec = ?, name = ? WHERE id = ?",
                [(json.dumps(c.raw), c.name, c.id) for c in containers],
            )

    def remove_containers(self, *ids: str) -> None:
        """Forget some containers of a pod, all or none."""
        with self.transaction() as db:
            db.executemany("DELETE FROM containers WHERE id = ?", [(cid,) for cid in ids])

    def load(self) -> list[Pod]:
        """All pods, oldest first."""
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for row in self.rows(f"SELECT {_COLUMNS} FROM containers ORDER BY pod, position"):
            rows.setdefault(row[1], []).append(row)
        pods = self.rows("SELECT id, spec, created_at FROM pods ORDER BY created_at, id")
        return [
            _pod(pod_id, spec, created_at, rows[pod_id])
            for pod_id, spec, created_at in pods
            if pod_id in rows
        ]


def _pod(pod_id: str, text: str, created_at: str, rows: list[tuple[Any, ...]]) -> Pod:
    raw: dict[str, Any] = json.loads(text)
    try:
        spec = parse_pod({**raw, "containers": [_named_spec(row) for row in rows]})
    except HyperError as error:
        raise HyperError(
            f"the database has a pod {pod_id} that this hyperd can't run: {error.message}: run the"
            " hyperd that made it, and remove the pod there"
        ) from error
    pod = Pod(pod_id, spec, raw, created_at)
    for row, container in zip(rows, pod.spec.containers, strict=True):
        pod.containers.append(
            Container(
                id=row[0],
                pod_id=row[1],
                name=row[3],
                spec=container,
                image=row[4],
                image_id=row[5],
                image_config=json.loads(row[6]),
                anonymous=json.loads(row[7]),
                state=State.from_json(json.loads(row[8])),
                created_at=row[9],
                raw=json.loads(row[10]),
            )
        )
    return pod


def _named_spec(row: tuple[Any, ...]) -> dict[str, Any]:
    """The specification in a row of the table of containers, with the present name."""
    spec = {key: value for key, value in json.loads(row[10]).items() if key.lower() != "name"}
    return {**spec, "name": row[3]}


def _row(container: Container, position: int) -> tuple[object, ...]:
    """A row of the table of containers."""
    return (
        container.id,
        container.pod_id,
        position,
        container.name,
        container.image,
        container.image_id,
        json.dumps(container.image_config),
        json.dumps(container.anonymous),
        json.dumps(container.state.to_json()),
        container.created_at,
        json.dumps(container.raw),
    )
