"""Blobs of namespaces: rows of the database and files, and how new ones are written."""

import asyncio
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import Conflict, NotFound, NotRunning
from ...images.contentfiles import ContentFiles, Ingest
from ...system.database import Database
from ..api import content_pb2 as api
from ..api import events_pb2 as events
from . import holding
from .exchange import Exchange
from .names import check_digest, check_key, check_labels
from .schema import dump, load, now, stamp, touch_namespace
from .server import Call
from .status import OutOfRange, Unavailable


@dataclass
class Writer:
    """A blob that is being written by one caller."""

    call: Call
    ref: str
    name: str
    ingest: Ingest
    total: int
    started: int
    updated: int


class ContentStore:
    """What there is, and what is under way."""

    def __init__(self, database: Database, events: Exchange, files: ContentFiles) -> None:
        self.database = database
        self.files = files
        self._events = events
        self._writing: set[tuple[str, str]] = set()

    def find(self, namespace: str, digest: str) -> api.Info:
        """A blob of a namespace. Raises NotFound, BadRequest."""
        row = self.database.row(
            "SELECT digest, size, labels, created, updated FROM content"
            " WHERE namespace = ? AND digest = ?",
            namespace,
            check_digest(digest),
        )
        if row is None:
            raise NotFound(f"content {digest}: not found")
        return info_of(*row)

    async def remove(self, namespace: str, digest: str) -> None:
        """Take a blob from a namespace; the file goes with the last. Raises NotFound."""
        self.find(namespace, digest)
        with self.database.transaction() as db:
            query = "DELETE FROM content WHERE namespace = ? AND digest = ?"
            db.execute(query, (namespace, digest))
        if self.database.row("SELECT 1 FROM content WHERE digest = ?", digest) is None:
            await asyncio.to_thread(self.files.remove, digest)
        self._events.publish(namespace, "/content/delete", events.ContentDelete(digest=digest))

    async def refuse_known(self, call: Call, digest: str) -> None:
        """Raises Conflict for a blob that is here: one of another namespace, or of hyperd, is."""
        namespace = call.namespace
        query = "SELECT 1 FROM content WHERE namespace = ? AND digest = ?"
        if self.database.row(query, namespace, check_digest(digest)) is None:
            size = await asyncio.to_thread(self.files.size, digest)
            if size is None:
                return
            self._note(call, digest, size, {})
        elif call.lease:
            with self.database.transaction() as db:
                holding.hold(db, call, holding.CONTENT, digest)
        raise Conflict(f"content {digest}: already exists")

    def _note(self, call: Call, digest: str, size: int, labels: Mapping[str, str]) -> None:
        """Take in a blob whose file is there. Raises Conflict."""
        moment, namespace = now(), call.namespace
        with self.database.transaction() as db:
            touch_namespace(db, namespace)
            try:
                row = (namespace, digest, size, dump(labels), moment, moment)
                db.execute("INSERT INTO content VALUES (?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise Conflict(f"content {digest}: already exists") from None
            holding.hold(db, call, holding.CONTENT, digest)

    async def open(self, call: Call, ref: str, total: int, expected: str) -> Writer:
        """Begin to write a blob, or go on; `close` has to follow.

        Raises Unavailable while another writes by the same reference, NotRunning when it was begun
        for another blob, Conflict for one that is here, BadRequest.
        """
        key = (call.namespace, check_key(ref, "reference to write by"))
        if expected:
            await self.refuse_known(call, expected)
        if key in self._writing:
            raise Unavailable(f"ref {ref} is locked: somebody else writes by it")
        self._writing.add(key)
        try:
            return await self._open(call, ref, total, expected)
        except BaseException:
            self._writing.discard(key)
            raise

    async def _open(self, call: Call, ref: str, total: int, expected: str) -> Writer:
        moment = now()
        query = "SELECT file, total, expected, started FROM ingests WHERE namespace = ? AND ref = ?"
        row = self.database.row(query, call.namespace, ref)
        if row is None:
            row = (uuid.uuid4().hex, total, expected, moment)
            with self.database.transaction() as db:
                touch_namespace(db, call.namespace)
                values = (call.namespace, ref, *row, moment)
                db.execute("INSERT INTO ingests VALUES (?, ?, ?, ?, ?, ?, ?)", values)
                holding.hold(db, call, holding.INGESTS, ref)
        name, known_total, known_expected, started = row
        if (total and known_total and total != known_total) or (
            expected and known_expected and expected != known_expected
        ):
            raise NotRunning(f"ref {ref} was begun for another blob: abort that first")
        what = f"content {ref[:100]}"
        ingest = await asyncio.to_thread(self.files.open_ingest, name, what)
        return Writer(call, ref, name, ingest, total or known_total, started, moment)

    async def write(self, writer: Writer, offset: int, data: bytes) -> None:
        """Add bytes at an offset, behind which nothing stays. Raises OutOfRange, NoSpace."""
        ingest = writer.ingest
        if offset < 0 or offset > ingest.offset:
            raise OutOfRange(f"ref {writer.ref} has {ingest.offset} bytes, none at {offset}")
        if data:
            if offset < ingest.offset:
                await asyncio.to_thread(ingest.cut, offset)
            await asyncio.to_thread(ingest.write, data)
            writer.updated = now()

    async def commit(
        self, writer: Writer, total: int, expected: str, labels: Mapping[str, str]
    ) -> str:
        """Give what was written its name; the digest.

        Raises NotRunning when size or digest are others than promised, Conflict for a blob that is
        here already; nothing of it stays then but the blob that was there.
        """
        ingest, total = writer.ingest, total or writer.total
        digest = ingest.digest
        if total and total != ingest.offset:
            raise NotRunning(f"ref {writer.ref} has {ingest.offset} bytes, not {total}")
        if expected and expected != digest:
            raise NotRunning(f"ref {writer.ref} has digest {digest}, not {expected}")
        checked = check_labels(labels)
        await asyncio.to_thread(ingest.sync)
        await asyncio.to_thread(self.files.adopt, ingest, digest)
        self.forget_ingest(writer.call.namespace, writer.ref)
        self._note(writer.call, digest, ingest.offset, checked)
        return digest

    async def close(self, writer: Writer) -> None:
        """End writing for now; what was written stays until it is committed or aborted."""
        try:
            await asyncio.to_thread(writer.ingest.close)
            with self.database.transaction() as db:
                query = "UPDATE ingests SET updated = ? WHERE namespace = ? AND ref = ?"
                db.execute(query, (writer.updated, writer.call.namespace, writer.ref))
        finally:
            self._writing.discard((writer.call.namespace, writer.ref))

    def forget_ingest(self, namespace: str, ref: str) -> None:
        """Take out the row of what was being written."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM ingests WHERE namespace = ? AND ref = ?", (namespace, ref))
            query = "DELETE FROM resources WHERE namespace = ? AND type = ? AND id = ?"
            db.execute(query, (namespace, holding.INGESTS, ref))

    async def abort(self, namespace: str, ref: str) -> None:
        """Forget what was written. Raises NotFound, Unavailable."""
        query = "SELECT file FROM ingests WHERE namespace = ? AND ref = ?"
        row = self.database.row(query, namespace, ref)
        if row is None:
            raise NotFound(f"no content is being written as {ref[:200]!r}")
        if (namespace, ref) in self._writing:
            raise Unavailable(f"ref {ref} is locked: somebody writes by it")
        self.forget_ingest(namespace, ref)
        await asyncio.to_thread(self.files.remove_ingest, row[0])

    def statuses(self, namespace: str) -> list[api.Status]:
        """What is being written."""
        rows = self.database.rows(
            "SELECT ref, file, total, expected, started, updated FROM ingests WHERE namespace = ?"
            " ORDER BY ref",
            namespace,
        )
        return [self._status(*row) for row in rows]

    def _status(
        self, ref: str, file: str, total: int, expected: str, started: int, updated: int
    ) -> api.Status:
        try:
            offset = self.files.ingest_path(file).stat().st_size
        except FileNotFoundError:
            offset = 0
        return api.Status(
            ref=ref,
            offset=offset,
            total=total,
            expected=expected,
            started_at=stamp(started),
            updated_at=stamp(updated),
        )


def info_of(digest: str, size: int, labels: str, created: int, updated: int) -> api.Info:
    """A row of the table of content."""
    return api.Info(
        digest=digest,
        size=size,
        labels=load(labels),
        created_at=stamp(created),
        updated_at=stamp(updated),
    )
