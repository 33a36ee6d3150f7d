"""Snapshots of namespaces: rows of the database and directories, and the mounts they are."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence

from ...errors import BadRequest, Conflict, NotFound, NotRunning
from ...images.snapshotfiles import SnapshotFiles
from ...system.database import Database
from ..api import events_pb2 as events
from ..api import snapshots_pb2 as api
from ..api.types_pb2 import Mount
from . import holding
from .exchange import Exchange
from .names import check_key, check_labels
from .schema import dump, load, now, stamp, touch_namespace
from .server import Call

SNAPSHOTTER = "overlayfs"
"""The name of the only snapshotter: that of containerd's own whose mounts these are."""
_INDEX_OPTION = "/sys/module/overlay/parameters/index"
_COLUMNS = "s.number, s.key, p.key, s.kind, s.labels, s.created, s.updated"
_FROM = "snapshots s LEFT JOIN snapshots p ON s.parent = p.number"


def check_snapshotter(name: str) -> None:
    """Raises BadRequest for one that is not here."""
    if name != SNAPSHOTTER:
        raise BadRequest(f"snapshotter not loaded: {name[:80]}: there is {SNAPSHOTTER}")


class SnapshotStore:
    """What there is."""

    def __init__(self, database: Database, events: Exchange, files: SnapshotFiles) -> None:
        self.database = database
        self.files = files
        self._events = events

    def find(self, namespace: str, key: str) -> tuple[int, api.Info]:
        """The number of a snapshot, and what is known of it. Raises NotFound."""
        query = f"SELECT {_COLUMNS} FROM {_FROM} WHERE s.namespace = ? AND s.key = ?"
        row = self.database.row(query, namespace, key)
        if row is None:
            raise NotFound(f"snapshot {key!r}: not found")
        return row[0], _info(*row[1:])

    def all_of(self, namespace: str) -> list[api.Info]:
        """All of a namespace."""
        query = f"SELECT {_COLUMNS} FROM {_FROM} WHERE s.namespace = ? ORDER BY s.key"
        return [_info(*row[1:]) for row in self.database.rows(query, namespace)]

    async def make(
        self, call: Call, key: str, parent: str, kind: int, labels: Mapping[str, str]
    ) -> list[Mount]:
        """Make an active snapshot or a view; its mounts.

        Raises NotFound (the parent), Conflict, BadRequest, NoSpace.
        """
        namespace, moment = call.namespace, now()
        check_key(key, "snapshot's key")
        check_labels(labels)
        below: int | None = None
        if parent:
            below, about = self.find(namespace, parent)
            if about.kind != api.Kind.COMMITTED:
                raise BadRequest(f"snapshot {parent!r} is not committed: commit it first")
        with self.database.transaction() as db:
            touch_namespace(db, namespace)
            try:
                row = (namespace, key, below, int(kind), dump(labels), moment, moment)
                number = db.execute(
                    "INSERT INTO snapshots (namespace, key, parent, kind, labels, created, updated)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                ).lastrowid
            except sqlite3.IntegrityError:
                raise Conflict(f"snapshot {key!r}: already exists") from None
            assert number is not None
            holding.hold(db, call, holding.SNAPSHOTS + SNAPSHOTTER, key)
        try:
            await asyncio.to_thread(self.files.make, number, below)
        except BaseException:
            with self.database.transaction() as db:
                db.execute("DELETE FROM snapshots WHERE number = ?", (number,))
            shutil.rmtree(self.files.retire(number), ignore_errors=True)
            raise
        event = events.SnapshotPrepare(key=key, parent=parent, snapshotter=SNAPSHOTTER)
        self._events.publish(namespace, "/snapshot/prepare", event)
        return self.mounts(namespace, key)

    def mounts(self, namespace: str, key: str) -> list[Mount]:
        """What a snapshot is mounted by. Raises NotFound, NotRunning for a committed one."""
        number, info = self.find(namespace, key)
        if info.kind == api.Kind.COMMITTED:
            raise NotRunning(f"snapshot {key!r} is committed: make one of it, and mount that")
        below = [str(self.files.files(n)) for n in self._parents(number)]
        own = str(self.files.files(number))
        if info.kind == api.Kind.VIEW:
            if len(below) < 2:
                return [_bind(below[0] if below else own, "ro")]
            return [_overlay(below)]
        if not below:
            return [_bind(own, "rw")]
        upper = (f"workdir={self.files.work(number)}", f"upperdir={own}")
        return [_overlay(below, *upper)]

    def _parents(self, number: int) -> list[int]:
        """The numbers of all below a snapshot, nearest first."""
        rows = self.database.rows(
            "WITH RECURSIVE below (number, parent, depth) AS ("
            " SELECT number, parent, 0 FROM snapshots WHERE number = ? UNION ALL"
            " SELECT s.number, s.parent, depth + 1 FROM snapshots s"
            " JOIN below ON s.number = below.parent)"
            " SELECT number FROM below WHERE depth > 0 ORDER BY depth",
            number,
        )
        return [row[0] for row in rows]

    async def commit(self, call: Call, name: str, key: str, labels: Mapping[str, str]) -> None:
        """Make an active snapshot one that others can be based on, under another name.

        Raises NotFound, NotRunning, Conflict, BadRequest.
        """
        namespace = call.namespace
        check_key(name, "snapshot's name")
        number, info = self.find(namespace, key)
        if info.kind != api.Kind.ACTIVE:
            raise NotRunning(f"snapshot {key!r} is not active: it can't be committed")
        kept = check_labels({**info.labels, **labels})
        size, inodes = await asyncio.to_thread(self.files.usage, number)
        with self.database.transaction() as db:
            row = (name, int(api.Kind.COMMITTED), dump(kept), size, inodes, now(), number)
            try:
                db.execute(
                    "UPDATE snapshots SET key = ?, kind = ?, labels = ?, size = ?, inodes = ?,"
                    " updated = ? WHERE number = ?",
                    row,
                )
            except sqlite3.IntegrityError:
                raise Conflict(f"snapshot {name!r}: already exists") from None
            holding.hold(db, call, holding.SNAPSHOTS + SNAPSHOTTER, name)
        await asyncio.to_thread(shutil.rmtree, self.files.work(number), True)
        event = events.SnapshotCommit(key=key, name=name, snapshotter=SNAPSHOTTER)
        self._events.publish(namespace, "/snapshot/commit", event)

    async def remove(self, namespace: str, key: str) -> None:
        """Raises NotFound, NotRunning when others are based on it."""
        number, _ = self.find(namespace, key)
        if self.database.row("SELECT 1 FROM snapshots WHERE parent = ?", number):
            raise NotRunning(f"snapshot {key!r} has others based on it: remove these first")
        with self.database.transaction() as db:
            db.execute("DELETE FROM snapshots WHERE number = ?", (number,))
        gone = await asyncio.to_thread(self.files.retire, number)
        await asyncio.to_thread(shutil.rmtree, gone, True)
        event = events.SnapshotRemove(key=key, snapshotter=SNAPSHOTTER)
        self._events.publish(namespace, "/snapshot/remove", event)

    def set_labels(self, number: int, labels: Mapping[str, str]) -> None:
        """Change the labels of a snapshot."""
        with self.database.transaction() as db:
            query = "UPDATE snapshots SET labels = ?, updated = ? WHERE number = ?"
            db.execute(query, (dump(labels), now(), number))

    async def usage(self, namespace: str, key: str) -> tuple[int, int]:
        """Bytes and files of a snapshot's own. Raises NotFound."""
        number, info = self.find(namespace, key)
        if info.kind != api.Kind.COMMITTED:
            return await asyncio.to_thread(self.files.usage, number)
        row = self.database.row("SELECT size, inodes FROM snapshots WHERE number = ?", number)
        return (row[0], row[1]) if row else (0, 0)


def _bind(source: str, mode: str) -> Mount:
    return Mount(type="bind", source=source, options=[mode, "rbind"])


def _overlay(below: Sequence[str], *upper: str) -> Mount:
    # Two mounts of one layer would else be refused where the kernel has the index on.
    index = ("index=off",) if upper and os.path.exists(_INDEX_OPTION) else ()
    options = [*index, *upper, f"lowerdir={':'.join(below)}"]
    return Mount(type="overlay", source="overlay", options=options)


def _info(
    key: str, parent: str | None, kind: int, labels: str, created: int, updated: int
) -> api.Info:
    return api.Info(
        name=key,
        parent=parent or "",
        kind=api.Kind.Name(kind),
        labels=load(labels),
        created_at=stamp(created),
        updated_at=stamp(updated),
    )
