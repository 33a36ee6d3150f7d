"""Events, kept in the database: who asks for those from a time on gets them, also of before a
restart.

Every subscriber reads from there, so that a slow one costs nothing but its own place.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from ...errors import BadRequest
from ...system.database import Database
from ...system.news import News
from ..api.events_pb2 import TaskExit
from ..api.events_ttrpc_pb2 import Envelope
from . import filters
from .fields import fields_of
from .names import check_identifier
from .schema import now, stamp

KEPT = 16384
"""How many events are kept."""
_BATCH = 100
_EVENT_LIMIT = 1 << 20
_TOPIC = re.compile(r"(/[A-Za-z0-9_.-]+){1,8}")


@dataclass(frozen=True)
class Wanted:
    """Which events: those that filters let through, of a time (nanoseconds since 1970)."""

    filters: Sequence[filters.Filter]
    since: int | None
    until: int | None

    def matches(self, envelope: Envelope) -> bool:
        """Whether an event is wanted."""
        return filters.matches(self.filters, lambda path: _field(envelope, path))


def wanted(texts: Sequence[str]) -> Wanted:
    """What filters ask for; `since==TIME` and `until==TIME` in one of them are of all.

    A time is as in RFC 3339, or seconds since 1970. Raises BadRequest.
    """
    times: dict[str, int] = {}
    kept: list[filters.Filter] = []
    for one in filters.parse(texts):
        rest = []
        for selector in one:
            (name, *more) = selector.path
            if name not in ("since", "until") or more:
                rest.append(selector)
                continue
            time = _time(selector.value)
            if selector.operator != "==" or times.setdefault(name, time) != time:
                raise BadRequest(f"{name}: one time by == is understood, not {selector.value!r}")
        kept.append(tuple(rest))
    return Wanted([one for one in kept if one] if all(kept) else [], *map(times.get, _TIMES))


_TIMES = ("since", "until")


def _time(text: str) -> int:
    try:
        return int(float(text) * 10**9)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{text!r} is no time: give one like 2026-01-31T12:00:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 10**6) * 1000


def _field(envelope: Envelope, path: Sequence[str]) -> str | None:
    if path[0] != "event":
        return fields_of(envelope)(path)
    content = unpacked(envelope.event)
    return fields_of(content)(path[1:]) if content is not None and path[1:] else None


def unpacked(event: Any) -> Message | None:
    """What an event holds; None where its type is unknown here, or it is damaged."""
    name = event.type_url.rpartition("/")[2]
    try:
        kind = descriptor_pool.Default().FindMessageTypeByName(name)
        return GetMessageClass(kind).FromString(event.value)
    except (KeyError, DecodeError):
        return None


class Exchange:
    """Where events come in and go out."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._last = 0
        self._news = News()

    def publish(self, namespace: str, topic: str, event: Message) -> None:
        """Tell of something that happened here."""
        self.pass_on(namespace, topic, packed(event))

    def pass_on(self, namespace: str, topic: str, event: Any) -> None:
        """Tell of something that happens now. Raises BadRequest."""
        self._last = max(now(), self._last + 1)
        self.forward(
            Envelope(timestamp=stamp(self._last), namespace=namespace, topic=topic, event=event)
        )

    def forward(self, envelope: Envelope) -> None:
        """Tell of what a shim saw; the same again is nothing new. Raises BadRequest."""
        check_identifier(envelope.namespace, "namespace")
        topic = envelope.topic
        if not _TOPIC.fullmatch(topic):
            raise BadRequest(f"bad topic {topic[:80]!r}: one is like /tasks/start")
        data = envelope.SerializeToString(deterministic=True)
        if len(data) > _EVENT_LIMIT:
            raise BadRequest(f"an event of {len(data)} bytes is refused: {_EVENT_LIMIT} at most")
        time = envelope.timestamp.ToNanoseconds()
        with self._db.transaction() as db:
            row = (time, topic, data, hashlib.sha256(data).digest())
            added = db.execute(
                "INSERT OR IGNORE INTO events (time, topic, envelope, mark) VALUES (?, ?, ?, ?)",
                row,
            )
            if added.rowcount and added.lastrowid and added.lastrowid % 256 == 0:
                db.execute("DELETE FROM events WHERE number <= ?", (added.lastrowid - KEPT,))
        self._news.tell()

    def has_exit(self, namespace: str, task_id: str, pid: int) -> bool:
        """Whether the end of a task's first process was told of already."""
        rows = self._db.rows(
            "SELECT envelope FROM events WHERE topic = '/tasks/exit' ORDER BY number DESC"
        )
        for (data,) in rows:
            envelope = Envelope.FromString(data)
            event = unpacked(envelope.event)
            if envelope.namespace != namespace or not isinstance(event, TaskExit):
                continue
            if (event.container_id, event.id, event.pid) == (task_id, task_id, pid):
                return True
        return False

    async def stream(self, want: Wanted) -> AsyncIterator[Envelope]:
        """Events as they come, until `want.until`; before them the kept ones from its time on."""
        (seen,) = self._db.row("SELECT coalesce(max(number), 0) FROM events") or (0,)
        if want.since is not None:
            (before,) = self._db.row(
                "SELECT min(number) - 1 FROM events WHERE time >= ?", want.since
            ) or (None,)
            seen = seen if before is None else before
        while True:
            rows = self._db.rows(
                "SELECT number, time, envelope FROM events WHERE number > ?"
                " ORDER BY number LIMIT ?",
                seen,
                _BATCH,
            )
            for number, time, data in rows:
                seen = number
                if want.until is not None and time > want.until:
                    continue
                if want.since is not None and time < want.since:
                    continue
                envelope = Envelope.FromString(data)
                if want.matches(envelope):
                    yield envelope
            if not rows and not await self._news.wait(want.until):
                return


def packed(message: Message) -> Any:
    """A message as containerd packs one: with its bare name for a type."""
    return Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())
