"""What leases hold: types of resources, and putting things under a lease."""

import sqlite3
from datetime import datetime

from ...errors import NotFound
from .server import Call

EXPIRE = "containerd.io/gc.expire"
"""The label with the time, as in RFC 3339, from which a lease keeps nothing."""
CONTENT, INGESTS, SNAPSHOTS = "content", "ingests", "snapshots/"
"""Types of resources; the last is followed by the snapshotter's name."""


def hold(db: sqlite3.Connection, call: Call, kind: str, resource: str) -> None:
    """Put something under the lease that a call names, if it does. Raises NotFound."""
    if not call.lease:
        return
    query = "SELECT 1 FROM leases WHERE namespace = ? AND id = ?"
    if db.execute(query, (call.namespace, call.lease)).fetchone() is None:
        raise NotFound(f"lease {call.lease!r}: not found")
    row = (call.namespace, call.lease, kind, resource)
    db.execute("INSERT OR IGNORE INTO resources VALUES (?, ?, ?, ?)", row)


def expires(labels: dict[str, str]) -> float | None:
    """When a lease ends, in seconds since 1970; None for never, or for what is no time."""
    try:
        return datetime.fromisoformat(labels[EXPIRE]).timestamp()
    except (KeyError, ValueError):
        return None
