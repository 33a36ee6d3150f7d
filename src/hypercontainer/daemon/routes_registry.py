"""Routes by which images go out: names, push, save; and credentials of registries."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

from aiohttp import web

from ..errors import BadRequest
from ..images import Auth
from ..images.auth import from_header
from . import params
from .context import of
from .jsonlines import LineStream
from .routing import LINES, TAR, Body, Route, json_value, text, texts
from .tarstream import send_tar

_PIECE = 1 << 20


async def auth(request: web.Request) -> web.Response:
    """Check a user and password (or an identity token) at a registry."""
    body = {key.lower(): value for key, value in (await params.body_object(request)).items()}
    fields = {key: body.pop(key, "") for key in ("username", "password", "identitytoken")}
    server = body.pop("serveraddress", "")
    if not all(isinstance(value, str) for value in (server, *fields.values())):
        raise BadRequest("username, password, identitytoken and serveraddress are strings")
    if not fields["username"] and not fields["identitytoken"]:
        raise BadRequest("username: missing: who is to log in?")
    credentials = Auth(fields["username"], fields["password"], fields["identitytoken"])
    await of(request).images.log_in(server, credentials)
    return web.json_response({"Status": "Login Succeeded", "IdentityToken": ""})


async def push(request: web.Request) -> web.StreamResponse:
    """Push an image; without `tag`, all tags of the repository."""
    images, events = of(request).images, of(request).pods.events
    remote, tag = params.text(request, "remote"), request.query.get("tag", "")
    names = [f"{remote}:{tag}"] if tag else images.tags_of(remote) or [remote]
    credentials = from_header(request.headers.get("X-Registry-Auth", ""))
    stream = LineStream(request)

    async def work() -> None:
        for name in names:
            await images.push(name, auth=credentials, progress=stream.progress)
            events.emit("image", "push", name, {"name": name})

    return await stream.run(work())


async def tag(request: web.Request) -> web.Response:
    """Give an image one more name."""
    images, name = of(request).images, params.text(request, "imageName")
    repository, suffix = params.text(request, "repo"), request.query.get("tag", "")
    new = f"{repository}:{suffix}" if suffix else repository
    await images.tag(name, new)
    of(request).pods.events.emit("image", "tag", images.get(new).id, {"name": new})
    return web.json_response({}, status=201)


async def save(request: web.Request) -> web.StreamResponse:
    """An archive of images: Docker's form, or an OCI layout with `format=oci`."""
    images = of(request).images
    names = request.query.getall("names", [])
    if not names:
        raise BadRequest("names: missing: which images are to be saved?")
    form = request.query.get("format", "")
    if form not in ("", "docker", "oci"):
        raise BadRequest(f"format: {form!r} is neither docker nor oci")
    refs = params.texts(request, "refs")
    if refs and form != "oci":
        raise BadRequest("refs: only an OCI layout (format=oci) has reference names")
    with images.saved(names, oci=form == "oci", refs=refs) as pieces:
        for name in names:
            events = of(request).pods.events
            events.emit("image", "save", images.get(name).id, {"name": name})
        async with aclosing(_read(pieces)) as body:  # type: ignore[type-var]
            return await send_tar(request, body)


async def _read(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a blocking iterator, gathered to at least a MiB each."""

    def gather() -> bytes:
        gathered: list[bytes] = []
        size = 0
        for piece in pieces:
            gathered.append(piece)
            size += len(piece)
            if size >= _PIECE:
                break
        return b"".join(gathered)

    while data := await asyncio.to_thread(gather):
        yield data


ROUTES = [
    Route(
        "POST",
        "/auth",
        auth,
        body=Body("Docker's AuthConfig", schema="Auth"),
        answer="`{Status}`",
    ),
    Route(
        "POST",
        "/image/push",
        push,
        text("remote", "the image's name", required=True),
        text("tag"),
        headers=("X-Registry-Auth",),
        answer="progress",
        media=LINES,
    ),
    Route(
        "POST",
        "/image/tag",
        tag,
        text("imageName", required=True),
        text("repo", required=True),
        text("tag"),
        status=201,
    ),
    Route(
        "GET",
        "/images/save",
        save,
        texts("names", "images; several times"),
        text("format", "empty: Docker's; `oci`"),
        json_value("refs", "an object: names in an OCI layout"),
        answer="an archive",
        media=TAR,
    ),
]
