"""Routes that change containers besides starting and ending them."""

from aiohttp import web

from ..pods import life
from ..pods.spec_container import MAX_GRACE
from . import params
from .context import of
from .routes_events import filters
from .routing import CONTAINER, Body, Route, json_value, number, text


async def rename(request: web.Request) -> web.Response:
    """Give a container another name."""
    service = of(request).pods
    container = service.one(params.text(request, "oldName"))
    await life.rename(service, container, params.text(request, "newName"))
    return web.json_response({})


async def restart(request: web.Request) -> web.Response:
    """Stop a container, if it runs, and start it; `timeout` is in seconds."""
    service = of(request).pods
    container = service.one(params.text(request, "container"))
    await life.restart(service, container, params.integer(request, "timeout", 0, MAX_GRACE))
    return web.json_response({})


async def update(request: web.Request) -> web.Response:
    """Change limits and restart policy of a container, or the size of its VM."""
    service = of(request).pods
    container = service.one(params.text(request, "container"))
    await life.update(service, container, await params.body_object(request))
    return web.json_response({"Warnings": []})


async def prune(request: web.Request) -> web.Response:
    """Remove the containers that don't run."""
    removed, size = await life.prune(of(request).pods, filters(request))
    return web.json_response({"ContainersDeleted": removed, "SpaceReclaimed": size})


GRACE = number("timeout", 0, MAX_GRACE, "seconds")
ROUTES = [
    Route(
        "POST",
        "/container/rename",
        rename,
        text("oldName", required=True),
        text("newName", required=True),
        answer="`{}`; the pod keeps its name, and the guest its host name",
    ),
    Route(
        "POST", "/container/restart", restart, CONTAINER, GRACE, answer="`{}` once it runs again"
    ),
    Route(
        "POST",
        "/container/update",
        update,
        CONTAINER,
        body=Body("limits and `RestartPolicy`, with Docker's names", schema="Update"),
        answer="`{Warnings}`",
    ),
    Route(
        "POST",
        "/containers/prune",
        prune,
        json_value("filters", "keys `until`, `label`, `label!`"),
        answer="`{ContainersDeleted, SpaceReclaimed}`",
    ),
]
