"""The stream of events."""

import json

from aiohttp import web

from ..errors import BadRequest
from ..pods.events import EventFilter
from . import logs
from .context import of
from .routing import LINES, Route, json_value, text


async def events(request: web.Request) -> web.StreamResponse:
    """Events as JSON objects, one a line, in Docker's form; those before now from `since` on."""
    since, until = request.query.get("since") or "", request.query.get("until") or ""
    stream = of(request).pods.events.stream(
        EventFilter(filters(request)),
        since=logs.parse_time(since, "since") if since else None,
        until=logs.parse_time(until, "until") if until else None,
    )
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    async for event in stream:
        await response.write(json.dumps(event.to_json()).encode() + b"\n")
    await response.write_eof()
    return response


def filters(request: web.Request) -> dict[str, list[str]]:
    """The parameter `filters`: JSON of `{key: [value…]}`, or Docker's older `{key: {value: true}}`.

    Raises BadRequest.
    """
    text = request.query.get("filters") or "{}"
    try:
        wanted = json.loads(text)
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        raise BadRequest(f"filters: {text!r} is not a JSON object")
    result: dict[str, list[str]] = {}
    for key, values in wanted.items():
        if isinstance(values, dict):
            values = [value for value, chosen in values.items() if chosen]
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise BadRequest(f"filters: {key}: an array of strings is expected")
        result[key] = values
    return result


_FILTERS = (
    "`{key: [value…]}` with the keys `type`, `event`, `container`, `pod`, `image`, `network`,"
    " `volume`, `label`"
)
ROUTES = [
    Route(
        "GET",
        "/events",
        events,
        text("since", "seconds or RFC 3339"),
        text("until", "the same"),
        json_value("filters", _FILTERS),
        answer="one JSON object a line, in Docker's form; the last 4096 are kept for `since`",
        media=LINES,
    ),
]
