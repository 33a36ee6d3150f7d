"""What happens to containers, pods, images, networks and volumes, as a stream in Docker's form.

The last events are kept in memory, so that who comes late can read what was;
they begin anew with each hyperd.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..errors import BadRequest
from ..system.news import News
from . import views
from .model import Container, Pod

CAPACITY = 4096
"""How many events are kept."""

TYPES = ("container", "image", "network", "pod", "volume")
_KEYS = (*TYPES, "type", "event", "label")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `time` is in nanoseconds since 1970."""

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time: int

    def to_json(self) -> dict[str, Any]:
        """In the form of Docker's GET /events; the first three keys are its old names."""
        old = {"status": self.action, "id": self.id, "from": self.attributes.get("image", "")}
        return {
            **(old if self.type in ("container", "image") else {}),
            "Type": self.type,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(self.attributes)},
            "scope": "local",
            "time": self.time // 10**9,
            "timeNano": self.time,
        }


class EventFilter:
    """Which events are wanted: for each key one of its values has to match (labels: all)."""

    def __init__(self, wanted: Mapping[str, list[str]] | None = None) -> None:
        """`wanted` is as Docker's `filters`. Raises BadRequest for an unknown key."""
        self._wanted = {key: values for key, values in (wanted or {}).items() if values}
        for key in self._wanted:
            if key not in _KEYS:
                raise BadRequest(f"filters: {key!r} is none of {', '.join(sorted(_KEYS))}")

    def matches(self, event: Event) -> bool:
        """Whether an event is wanted."""
        return all(_matches(event, key, values) for key, values in self._wanted.items())


def _matches(event: Event, key: str, values: list[str]) -> bool:
    if key == "type":
        return event.type in values
    if key == "event":
        # `exec_start: ls` is found by `exec_start`, `health_status: healthy` likewise.
        return event.action in values or event.action.partition(":")[0] in values
    if key == "label":
        return all(_has_label(event.attributes, value) for value in values)
    names = {event.attributes.get(key, "")}
    if event.type == key:
        names |= {event.id, event.attributes.get("name", "")}
    return any(v in names or (event.type == key and event.id.startswith(v)) for v in values)


def _has_label(attributes: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in attributes and (not equals or attributes[name] == value)


class Events:
    """The events of this hyperd. `emit` never fails and never waits."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._kept: deque[Event] = deque(maxlen=capacity)
        self._number = 0
        self._last = 0
        self._news = News()

    def emit(
        self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None
    ) -> None:
        """Tell everyone who listens. `type` is one of TYPES, `action` a word of Docker's."""
        self._last = max(time.time_ns(), self._last + 1)
        self._number += 1
        self._kept.append(Event(type, action, id, dict(attributes or {}), self._last))
        self._news.tell()

    def container(self, action: str, pod: Pod, container: Container, **more: str) -> None:
        """Tell of a container: Docker's attributes (image, name, labels), its pod, and `more`."""
        attributes = {
            **views.labels(pod, container),
            "image": container.image,
            "name": container.name,
            "pod": pod.id,
            **more,
        }
        self.emit("container", action, container.id, attributes)

    def pod(self, action: str, pod: Pod) -> None:
        """Tell of a pod: its name and labels."""
        self.emit("pod", action, pod.id, {**pod.spec.labels, "name": pod.id})

    async def stream(
        self, wanted: EventFilter, *, since: int | None = None, until: int | None = None
    ) -> AsyncIterator[Event]:
        """Events as they come, until the time `until`; before them the kept ones from `since` on.

        Times are in nanoseconds since 1970. A listener that is slower than the
        events loses the oldest.
        """
        seen = self._number if since is None else self._number - len(self._kept)
        while True:
            seen = max(seen, self._number - len(self._kept))
            missing = self._number - seen
            for event in list(islice(self._kept, len(self._kept) - missing, None)):
                seen += 1
                if until is not None and event.time > until:
                    return
                if event.time >= (since or 0) and wanted.matches(event):
                    yield event
            if self._number == seen and not await self._news.wait(until):
                return
