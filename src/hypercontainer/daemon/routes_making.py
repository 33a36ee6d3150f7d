"""Routes by which images are made here, and cleared away: commit, import, history, prune."""

import time

from aiohttp import web

from ..build.committing import commit as commit_container
from ..errors import BadRequest
from . import logs, params
from .context import of
from .routes_events import filters
from .routing import CONTAINER, Body, Route, flag, json_value, text, texts


def name_of(repository: str, tag: str) -> str:
    """A name of its parts, "" for none. Raises BadRequest."""
    if tag and not repository:
        raise BadRequest("tag: there is no repo to tag")
    return f"{repository}:{tag}" if tag else repository


def lines_of(changes: list[str]) -> list[str]:
    """The instructions of `changes`, one a line."""
    lines = [line for text in changes for line in text.splitlines()]
    return [line for line in lines if line.strip()]


async def commit(request: web.Request) -> web.Response:
    """Make an image of a container; the body may be Docker's Config."""
    service = of(request).pods
    container = service.container(params.text(request, "container"))
    config = await params.body_object(request) if request.can_read_body else {}
    image = await commit_container(
        service,
        container,
        name=name_of(request.query.get("repo", ""), request.query.get("tag", "")),
        author=request.query.get("author", ""),
        comment=request.query.get("comment", ""),
        changes=lines_of(request.query.getall("changes", [])),
        config=config,
        pause=params.boolean(request, "pause", True),
    )
    return web.json_response({"ID": image.id, "Id": image.id})


async def history(request: web.Request) -> web.Response:
    """How an image came about, newest first."""
    return web.json_response([*of(request).images.history(params.text(request, "imageName"))])


async def prune(request: web.Request) -> web.Response:
    """Remove nameless images that no container uses, or all unused ones (dangling=false)."""
    context, wanted = of(request), filters(request)
    moments = [logs.parse_time(text, "filters: until") for text in wanted.get("until", [])]
    until = min(moments) / 1e9 if moments else time.time() + 1
    gone, size = await context.images.prune(wanted, context.pods.uses_image, until)
    for item in gone:
        for action, name in item.items():
            word = "untag" if action == "untagged" else "delete"
            context.pods.events.emit("image", word, name, {"name": name})
    deleted = [{key.capitalize(): value for key, value in item.items()} for item in gone]
    return web.json_response({"ImagesDeleted": deleted or None, "SpaceReclaimed": size})


ROUTES = [
    Route(
        "POST",
        "/container/commit",
        commit,
        CONTAINER,
        text("repo", "the new image's name"),
        text("tag"),
        text("author"),
        text("comment", "for its history"),
        texts("changes", "instructions of a Dockerfile; several times"),
        flag("pause", "freeze a running one meanwhile; true unless given"),
        body=Body("Docker's Config: what is to be otherwise", required=False),
        answer="`{ID, Id}`",
    ),
    Route(
        "GET",
        "/image/history",
        history,
        text("imageName", "name or id", required=True),
        answer="a list of `{Id, Created, CreatedBy, Tags, Size, Comment}`",
    ),
    Route(
        "POST",
        "/images/prune",
        prune,
        json_value("filters", "`dangling`, `until`, `label`, `label!`"),
        answer="`{ImagesDeleted, SpaceReclaimed}`",
    ),
]
