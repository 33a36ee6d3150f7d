"""Routes by which images are made here, and cleared away: commit, import, history, prune."""

import platform
import time
from typing import Any

from aiohttp import web

from ..build.committing import commit as commit_container
from ..build.settings import with_changes
from ..errors import BadRequest, NotSupported
from ..images.making import Packed
from ..pods.model import now
from . import logs, params
from .context import of
from .jsonlines import LineStream
from .routes_events import filters
from .routing import CONTAINER, Body, Route, flag, json_value, text, texts

_CHUNK = 1 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def name_of(request: web.Request) -> str:
    """The name that `repo` and `tag` give, "" for none. Raises BadRequest."""
    repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
    if tag and not repository:
        raise BadRequest("tag: there is no repo to tag")
    return f"{repository}:{tag}" if tag else repository


async def commit(request: web.Request) -> web.Response:
    """Make an image of a container; the body may be Docker's Config."""
    service = of(request).pods
    container = service.container(params.text(request, "container"))
    config = await params.body_object(request) if request.can_read_body else {}
    image = await commit_container(
        service,
        container,
        name=name_of(request),
        author=request.query.get("author", ""),
        comment=request.query.get("comment", ""),
        changes=_changes(request),
        config=config,
        pause=params.boolean(request, "pause", True),
    )
    return web.json_response({"ID": image.id, "Id": image.id})


def _changes(request: web.Request) -> list[str]:
    lines = [line for text in request.query.getall("changes", []) for line in text.splitlines()]
    return [line for line in lines if line.strip()]


async def import_archive(request: web.Request) -> web.StreamResponse:
    """Make an image of a root file system, the body: a tar archive."""
    source = request.query["fromSrc"]
    if source != "-":
        raise NotSupported(f"fromSrc={source}: not supported: send the archive as the body (-)")
    name, message = name_of(request), request.query.get("message", "")
    created = now()
    config: dict[str, Any] = {
        "created": created,
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": with_changes({}, _changes(request)),
        "history": [{"created": created, "comment": message or "Imported from -"}],
    }
    stream = LineStream(request)

    async def work() -> None:
        images, events = of(request).images, of(request).pods.events
        body = Packed(request.content.iter_chunked(_CHUNK))
        image = await images.make(config, layer=body, names=[name] if name else [])
        events.emit("image", "import", image.id, {"name": name or image.id})
        stream.progress({"status": image.id})

    return await stream.run(work())


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
