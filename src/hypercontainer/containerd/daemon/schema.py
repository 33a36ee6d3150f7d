"""The tables of runv-containerd's database.

Things that clients describe are kept in the form of their protobuf message; times are nanoseconds
since 1970. All but events belong to a namespace.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from ...system.database import Database

_TABLES = """
CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL DEFAULT '{}') STRICT;
CREATE TABLE containers (
    namespace TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL,
    snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL, labels TEXT NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;
CREATE TABLE images (
    namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
    target TEXT NOT NULL, labels TEXT NOT NULL, PRIMARY KEY (namespace, name)
) STRICT;
CREATE TABLE content (
    namespace TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (namespace, digest)
) STRICT;
CREATE TABLE ingests (
    namespace TEXT NOT NULL, ref TEXT NOT NULL, file TEXT NOT NULL UNIQUE,
    total INTEGER NOT NULL, expected TEXT NOT NULL, started INTEGER NOT NULL,
    updated INTEGER NOT NULL, PRIMARY KEY (namespace, ref)
) STRICT;
CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL, key TEXT NOT NULL,
    parent INTEGER REFERENCES snapshots (number), kind INTEGER NOT NULL, labels TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0, inodes INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, UNIQUE (namespace, key)
) STRICT;
CREATE TABLE leases (
    namespace TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL, created INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;
CREATE TABLE resources (
    namespace TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (namespace, lease, type, id),
    FOREIGN KEY (namespace, lease) REFERENCES leases (namespace, id) ON DELETE CASCADE
) STRICT;
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,
    topic TEXT NOT NULL, envelope BLOB NOT NULL, mark BLOB NOT NULL UNIQUE
) STRICT;
CREATE INDEX events_by_time ON events (time);
CREATE TABLE server (uuid TEXT NOT NULL) STRICT;
"""


def _first(db: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        db.execute(statement)


def open_database(path: Path) -> Database:
    """Open or make it. Raises HyperError."""
    return Database(path, (_first,), "runv-containerd")


def touch_namespace(db: sqlite3.Connection, namespace: str) -> None:
    """A namespace is there once something is put into it."""
    db.execute("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", (namespace,))


def stamp(nanoseconds: int) -> Timestamp:
    """A time as a protobuf message."""
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def now() -> int:
    """The present, in nanoseconds since 1970."""
    return time.time_ns()


def dump(labels: Mapping[str, str]) -> str:
    """Labels as a column."""
    return json.dumps(dict(labels))


def load(column: str) -> dict[str, str]:
    """Labels of a column."""
    labels: dict[str, str] = json.loads(column)
    return labels
