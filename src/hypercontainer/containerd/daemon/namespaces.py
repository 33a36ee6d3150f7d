"""The service of namespaces: each client's things apart from those of others."""

import sqlite3

from google.protobuf.empty_pb2 import Empty

from ...errors import Conflict, NotFound, NotRunning
from ..api import events_pb2 as events
from ..api import namespaces_pb2 as api
from .core import Core
from .fields import fields_of, masked_labels
from .filters import matches, parse
from .names import check_identifier, check_labels
from .schema import dump, load
from .server import NO_BOUNDS, Call

_CONTENTS = ("containers", "images", "content", "snapshots")


class Namespaces:
    """Their names and labels."""

    descriptor = api.DESCRIPTOR.services_by_name["Namespaces"]
    bounds = NO_BOUNDS

    def __init__(self, core: Core) -> None:
        self._db = core.database
        self._events = core.events

    async def get(self, request: api.GetNamespaceRequest, _: Call) -> api.GetNamespaceResponse:
        """One that nothing is in yet has no labels: clients ask before they put something there."""
        return api.GetNamespaceResponse(namespace=self._find(request.name))

    def _find(self, name: str) -> api.Namespace:
        check_identifier(name, "namespace")
        row = self._db.row("SELECT labels FROM namespaces WHERE name = ?", name)
        return api.Namespace(name=name, labels=load(row[0]) if row else {})

    async def list(self, request: api.ListNamespacesRequest, _: Call) -> api.ListNamespacesResponse:
        """All that a filter lets through."""
        wanted = parse([request.filter] if request.filter else [])
        rows = self._db.rows("SELECT name, labels FROM namespaces ORDER BY name")
        all_of_them = [api.Namespace(name=name, labels=load(labels)) for name, labels in rows]
        found = [one for one in all_of_them if matches(wanted, fields_of(one))]
        return api.ListNamespacesResponse(namespaces=found)

    async def create(
        self, request: api.CreateNamespaceRequest, _: Call
    ) -> api.CreateNamespaceResponse:
        """Raises Conflict, BadRequest."""
        namespace = request.namespace
        name = check_identifier(namespace.name, "namespace")
        labels = check_labels(namespace.labels)
        with self._db.transaction() as db:
            try:
                db.execute("INSERT INTO namespaces VALUES (?, ?)", (name, dump(labels)))
            except sqlite3.IntegrityError:
                raise Conflict(f"namespace {name!r}: already exists") from None
        event = events.NamespaceCreate(name=name, labels=labels)
        self._events.publish(name, "/namespaces/create", event)
        return api.CreateNamespaceResponse(namespace=namespace)

    async def update(
        self, request: api.UpdateNamespaceRequest, _: Call
    ) -> api.UpdateNamespaceResponse:
        """Change labels. Raises BadRequest."""
        old = self._find(request.namespace.name)
        paths = request.update_mask.paths
        labels = check_labels(masked_labels(old.labels, request.namespace.labels, paths))
        with self._db.transaction() as db:
            db.execute("INSERT OR REPLACE INTO namespaces VALUES (?, ?)", (old.name, dump(labels)))
        event = events.NamespaceUpdate(name=old.name, labels=labels)
        self._events.publish(old.name, "/namespaces/update", event)
        return api.UpdateNamespaceResponse(namespace=self._find(old.name))

    async def delete(self, request: api.DeleteNamespaceRequest, _: Call) -> Empty:
        """Forget an empty one. Raises NotFound, NotRunning."""
        name = request.name
        if self._db.row("SELECT 1 FROM namespaces WHERE name = ?", name) is None:
            raise NotFound(f"namespace {name[:80]!r}: not found")
        full = [
            kind
            for kind in _CONTENTS
            if self._db.row(f"SELECT 1 FROM {kind} WHERE namespace = ? LIMIT 1", name)
        ]
        if full:
            raise NotRunning(f"namespace {name!r} has {', '.join(full)}: remove these first")
        with self._db.transaction() as db:
            db.execute("DELETE FROM leases WHERE namespace = ?", (name,))
            db.execute("DELETE FROM ingests WHERE namespace = ?", (name,))
            db.execute("DELETE FROM namespaces WHERE name = ?", (name,))
        self._events.publish(name, "/namespaces/delete", events.NamespaceDelete(name=name))
        return Empty()
