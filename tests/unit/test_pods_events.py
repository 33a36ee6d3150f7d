"""Events: kept, filtered, followed."""

import asyncio
import time

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.pods.events import Event, EventFilter, Events


def test_dockers_form() -> None:
    event = Event("container", "die", "abc", {"image": "busybox", "exitCode": "3"}, 1_500_000_001)
    assert event.to_json() == {
        "status": "die",
        "id": "abc",
        "from": "busybox",
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "abc", "Attributes": {"image": "busybox", "exitCode": "3"}},
        "scope": "local",
        "time": 1,
        "timeNano": 1_500_000_001,
    }


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image", "container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["exec_start"]}, True),
        ({"event": ["exec_start: ls"]}, True),
        ({"event": ["exec_start: l"]}, False),
        ({"container": ["box"]}, True),
        ({"container": ["abc"]}, True),
        ({"container": ["bc"]}, False),
        ({"pod": ["p"]}, True),
        ({"image": ["busybox"]}, True),
        ({"image": ["busy"]}, False),
        ({"label": ["a"]}, True),
        ({"label": ["a=1", "b"]}, False),
        ({"type": ["container"], "event": ["die"]}, False),
    ],
)
def test_filters(wanted: dict[str, list[str]], matches: bool) -> None:
    about = {"name": "box", "pod": "p", "image": "busybox", "a": "1"}
    event = Event("container", "exec_start: ls", "abcdef", about, 1)
    assert EventFilter(wanted).matches(event) is matches


def test_an_unknown_filter() -> None:
    with pytest.raises(BadRequest, match="'colour' is none of"):
        EventFilter({"colour": ["red"]})


async def _actions(events: Events, **options: int) -> list[str]:
    return [event.action async for event in events.stream(EventFilter(), **options)]


def test_the_last_are_kept() -> None:
    async def run() -> None:
        events = Events(capacity=3)
        for number in range(5):
            events.emit("pod", str(number), "p")
        assert await _actions(events, since=0, until=time.time_ns()) == ["2", "3", "4"]
        assert await _actions(events, until=time.time_ns()) == []
        assert await _actions(events, since=0, until=events._last - 1) == ["2", "3"]
        assert await _actions(events, since=events._last, until=time.time_ns()) == ["4"]

    asyncio.run(run())


def test_times_differ() -> None:
    events = Events()
    for _ in range(100):
        events.emit("pod", "start", "p")
    assert len({event.time for event in events._kept}) == 100


def test_followed_by_several_and_slow_ones() -> None:
    async def run() -> None:
        events = Events(capacity=4)

        async def first(count: int) -> list[str]:
            found: list[str] = []
            async for event in events.stream(EventFilter()):
                found.append(event.action)
                if len(found) == 1:
                    await asyncio.sleep(0)
                if len(found) == count:
                    break
            return found

        listeners = [asyncio.create_task(first(4)) for _ in range(2)]
        await asyncio.sleep(0)
        for number in range(10):
            events.emit("pod", str(number), "p")
        for listener in listeners:
            assert await asyncio.wait_for(listener, 10) == ["6", "7", "8", "9"]
        assert not events._news._waiting

    asyncio.run(run())
