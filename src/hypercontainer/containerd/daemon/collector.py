"""Removing what nothing refers to: content and snapshots without an image, a container or a lease.

What refers to what is told by labels, as containerd's clients set them:
`containerd.io/gc.ref.content[.ANY]` and `containerd.io/gc.ref.snapshot.SNAPSHOTTER[/ANY]` name a
digest and a snapshot's key, and `containerd.io/gc.root` keeps a thing for itself. A lease with
`containerd.io/gc.flat` keeps only what is under it, not what that refers to.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping

from ...errors import HyperError, NotFound, NotRunning
from ...system.database import Database
from ...system.tasks import Tasks
from .contentstore import ContentStore
from .holding import CONTENT, SNAPSHOTS, expires
from .schema import load, now
from .snapshotstore import SNAPSHOTTER, SnapshotStore
from .status import Unavailable

log = logging.getLogger(__name__)

_ROOT = "containerd.io/gc.root"
_FLAT = "containerd.io/gc.flat"
_CONTENT_REF = "containerd.io/gc.ref.content"
_SNAPSHOT_REF = f"containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"
_DELAY = 1.0
_INGEST_AGE = 24 * 3600 * 10**9

Node = tuple[str, str]
"""A kind, of `content` and `snapshot`, and a digest or key."""


class Collector:
    """Runs after removals, one at a time."""

    def __init__(self, database: Database, content: ContentStore, snapshots: SnapshotStore) -> None:
        self._db = database
        self._content = content
        self._snapshots = snapshots
        self._lock = asyncio.Lock()
        self._tasks = Tasks()
        self._due = False

    def soon(self) -> None:
        """Run a moment later, once for all that ask meanwhile."""
        if not self._due:
            self._due = True
            self._tasks.spawn(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(_DELAY)
        self._due = False
        try:
            await self.run()
        except HyperError as error:
            log.warning("removing what is not needed: %s", error.message)

    def close(self) -> None:
        """Run no more."""
        self._tasks.cancel()

    async def run(self) -> None:
        """Remove, in all namespaces, what nothing refers to."""
        async with self._lock:
            for (namespace,) in self._db.rows("SELECT name FROM namespaces"):
                self._end_leases(namespace)
                await self._sweep(namespace)
                await self._drop_ingests(namespace)

    def _end_leases(self, namespace: str) -> None:
        rows = self._db.rows("SELECT id, labels FROM leases WHERE namespace = ?", namespace)
        gone = []
        for name, labels in rows:
            end = expires(load(labels))
            if end is not None and end <= time.time():
                gone.append((namespace, name))
        if gone:
            with self._db.transaction() as db:
                db.executemany("DELETE FROM leases WHERE namespace = ? AND id = ?", gone)

    async def _sweep(self, namespace: str) -> None:
        graph = Graph(self._db, namespace)
        needed = graph.reached()
        for digest in graph.content.keys() - {name for kind, name in needed if kind == "content"}:
            try:
                await self._content.remove(namespace, digest)
            except NotFound:
                continue
        unneeded = graph.snapshots.keys() - {name for kind, name in needed if kind == "snapshot"}
        # Those that nothing is based on go first.
        for key in sorted(unneeded, key=graph.depth, reverse=True):
            try:
                await self._snapshots.remove(namespace, key)
            except (NotFound, NotRunning):
                continue

    async def _drop_ingests(self, namespace: str) -> None:
        """Forget what was begun long ago, and nobody goes on with."""
        rows = self._db.rows(
            "SELECT ref FROM ingests WHERE namespace = ? AND updated < ?",
            namespace,
            now() - _INGEST_AGE,
        )
        for (ref,) in rows:
            try:
                await self._content.abort(namespace, ref)
            except (NotFound, Unavailable):
                continue


class Graph:
    """The things of a namespace, and what keeps them."""

    def __init__(self, db: Database, namespace: str) -> None:
        self._db = db
        self._namespace = namespace
        rows = db.rows("SELECT digest, labels FROM content WHERE namespace = ?", namespace)
        self.content = {digest: load(labels) for digest, labels in rows}
        rows = db.rows(
            "SELECT s.key, p.key, s.labels FROM snapshots s LEFT JOIN snapshots p"
            " ON s.parent = p.number WHERE s.namespace = ?",
            namespace,
        )
        self.snapshots: dict[str, tuple[str | None, dict[str, str]]] = {
            key: (parent, load(labels)) for key, parent, labels in rows
        }

    def depth(self, key: str) -> int:
        """How many snapshots are below one."""
        count = 0
        while (parent := self.snapshots[key][0]) is not None:
            key, count = parent, count + 1
        return count

    def reached(self) -> set[Node]:
        """What is needed."""
        flat, roots = self._leased()
        todo = [*roots, *self._roots()]
        seen: set[Node] = set()
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo.extend(self._needs(node))
        return seen | flat

    def _leased(self) -> tuple[set[Node], list[Node]]:
        """What leases keep without, and with, what it refers to."""
        flat: set[Node] = set()
        roots: list[Node] = []
        rows = self._db.rows(
            "SELECT r.type, r.id, l.labels FROM resources r JOIN leases l"
            " ON r.namespace = l.namespace AND r.lease = l.id WHERE r.namespace = ?",
            self._namespace,
        )
        for kind, name, labels in rows:
            if kind == CONTENT:
                node = ("content", name)
            elif kind == SNAPSHOTS + SNAPSHOTTER:
                node = ("snapshot", name)
            else:
                continue
            if _FLAT in load(labels):
                flat.add(node)
            else:
                roots.append(node)
        return flat, roots

    def _roots(self) -> Iterator[Node]:
        for digest, labels in self.content.items():
            if _ROOT in labels:
                yield "content", digest
        for key, (_, labels) in self.snapshots.items():
            if _ROOT in labels:
                yield "snapshot", key
        query = "SELECT target, labels FROM images WHERE namespace = ?"
        for target, column in self._db.rows(query, self._namespace):
            yield "content", target
            yield from _references(load(column))
        query = "SELECT snapshotter, snapshot_key, labels FROM containers WHERE namespace = ?"
        for snapshotter, key, column in self._db.rows(query, self._namespace):
            if snapshotter == SNAPSHOTTER and key:
                yield "snapshot", key
            yield from _references(load(column))

    def _needs(self, node: Node) -> Iterator[Node]:
        kind, name = node
        if kind == "content":
            yield from _references(self.content.get(name, {}))
        elif name in self.snapshots:
            parent, labels = self.snapshots[name]
            if parent is not None:
                yield "snapshot", parent
            yield from _references(labels)


def _references(labels: Mapping[str, str]) -> Iterator[Node]:
    for key, value in labels.items():
        if key == _CONTENT_REF or key.startswith((f"{_CONTENT_REF}.", f"{_CONTENT_REF}/")):
            yield "content", value
        elif key == _SNAPSHOT_REF or key.startswith((f"{_SNAPSHOT_REF}/", f"{_SNAPSHOT_REF}.")):
            yield "snapshot", value
