"""The service of leases: what keeps things that nothing refers to yet from removal."""

import sqlite3
import uuid

from google.protobuf.empty_pb2 import Empty

from ...errors import BadRequest, Conflict, NotFound
from ..api import leases_pb2 as api
from .core import Core
from .fields import fields_of
from .filters import matches, parse
from .holding import CONTENT, EXPIRE, INGESTS, SNAPSHOTS, expires
from .names import check_key, check_labels
from .schema import dump, load, now, stamp, touch_namespace
from .server import NO_BOUNDS, Call


class Leases:
    """Leases and the resources under them."""

    descriptor = api.DESCRIPTOR.services_by_name["Leases"]
    bounds = NO_BOUNDS

    def __init__(self, core: Core) -> None:
        self._core = core
        self._db = core.database

    async def create(self, request: api.CreateRequest, call: Call) -> api.CreateResponse:
        """Raises Conflict, BadRequest."""
        name = request.id or f"{uuid.uuid4().hex[:16]}"
        check_key(name, "lease")
        labels, created, namespace = check_labels(request.labels), now(), call.namespace
        if EXPIRE in labels and expires(labels) is None:
            raise BadRequest(f"lease {name}: {EXPIRE}: {labels[EXPIRE]!r} is no time")
        with self._db.transaction() as db:
            touch_namespace(db, namespace)
            try:
                row = (namespace, name, dump(labels), created)
                db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise Conflict(f"lease {name!r}: already exists") from None
        lease = api.Lease(id=name, labels=labels, created_at=stamp(created))
        return api.CreateResponse(lease=lease)

    async def delete(self, request: api.DeleteRequest, call: Call) -> Empty:
        """End a lease; with `sync` what only it kept is gone then. Raises NotFound."""
        self._need(call.namespace, request.id)
        with self._db.transaction() as db:
            query = "DELETE FROM leases WHERE namespace = ? AND id = ?"
            db.execute(query, (call.namespace, request.id))
        if request.sync:
            await self._core.collector.run()
        else:
            self._core.collector.soon()
        return Empty()

    def _need(self, namespace: str, name: str) -> None:
        query = "SELECT 1 FROM leases WHERE namespace = ? AND id = ?"
        if self._db.row(query, namespace, name) is None:
            raise NotFound(f"lease {name!r}: not found")

    async def list(self, request: api.ListRequest, call: Call) -> api.ListResponse:
        """Those that filters let through."""
        wanted = parse(request.filters)
        query = "SELECT id, labels, created FROM leases WHERE namespace = ? ORDER BY id"
        found = [
            api.Lease(id=name, labels=load(labels), created_at=stamp(created))
            for name, labels, created in self._db.rows(query, call.namespace)
        ]
        return api.ListResponse(leases=[one for one in found if matches(wanted, fields_of(one))])

    async def add_resource(self, request: api.AddResourceRequest, call: Call) -> Empty:
        """Raises NotFound, BadRequest."""
        self._need(call.namespace, request.id)
        kind, name = request.resource.type, check_key(request.resource.id, "resource")
        if kind not in (CONTENT, INGESTS) and not kind.startswith(SNAPSHOTS):
            raise BadRequest(f"lease {request.id}: resources of type {kind[:80]!r} are not known")
        with self._db.transaction() as db:
            row = (call.namespace, request.id, kind, name)
            db.execute("INSERT OR IGNORE INTO resources VALUES (?, ?, ?, ?)", row)
        return Empty()

    async def delete_resource(self, request: api.DeleteResourceRequest, call: Call) -> Empty:
        """Raises NotFound."""
        self._need(call.namespace, request.id)
        with self._db.transaction() as db:
            db.execute(
                "DELETE FROM resources WHERE namespace = ? AND lease = ? AND type = ? AND id = ?",
                (call.namespace, request.id, request.resource.type, request.resource.id),
            )
        self._core.collector.soon()
        return Empty()

    async def list_resources(
        self, request: api.ListResourcesRequest, call: Call
    ) -> api.ListResourcesResponse:
        """Raises NotFound."""
        self._need(call.namespace, request.id)
        query = "SELECT id, type FROM resources WHERE namespace = ? AND lease = ? ORDER BY type, id"
        rows = self._db.rows(query, call.namespace, request.id)
        found = [api.Resource(id=name, type=kind) for name, kind in rows]
        return api.ListResourcesResponse(resources=found)
