"""Routes of images; progress goes as lines of JSON in Docker's form."""

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..errors import BadRequest, HyperError, to_wire
from ..images import Auth, Image
from ..pods.views import unix_time
from . import params
from .context import of

_QUEUE = 1000
_CHUNK = 1 << 20

Progress = Callable[[dict[str, Any]], None]


class _Stream:
    """A response of JSON lines. Nothing is sent before the first, so an error may come before."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._response: web.StreamResponse | None = None

    def progress(self, line: dict[str, Any]) -> None:
        """Take a line, from any thread; bars that a slow client would not see are dropped."""
        self._loop.call_soon_threadsafe(self._put, line)

    def _put(self, line: dict[str, Any]) -> None:
        if self._lines.qsize() < _QUEUE or "progressDetail" not in line:
            self._lines.put_nowait(line)

    async def run(self, work: Awaitable[object]) -> web.StreamResponse:
        """Do the work and send its progress; its error ends the stream."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._loop.call_soon(self._lines.put_nowait, None))
        try:
            while (line := await self._lines.get()) is not None:
                await self._send(line)
            await task
        except HyperError as error:
            if self._response is None:
                raise
            wire = to_wire(error)
            await self._send({"error": error.message, "errorDetail": wire})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        response = await self._open()
        await response.write_eof()
        return response

    async def _send(self, line: dict[str, Any]) -> None:
        response = await self._open()
        await response.write(json.dumps(line).encode() + b"\r\n")

    async def _open(self) -> web.StreamResponse:
        if self._response is None:
            self._response = web.StreamResponse(headers={"Content-Type": "application/json"})
            self._response.enable_chunked_encoding()
            await self._response.prepare(self._request)
        return self._response


async def create(request: web.Request) -> web.StreamResponse:
    """Pull an image."""
    if request.query.get("fromSrc"):
        raise BadRequest("fromSrc: import is not supported yet")
    name = params.text(request, "imageName")
    tag = request.query.get("tag")
    if tag:
        name = f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"
    auth = _auth(request.headers.get("X-Registry-Auth", ""))
    stream = _Stream(request)

    async def pull() -> None:
        await of(request).images.pull(name, auth=auth, progress=stream.progress)
        of(request).pods.events.emit("image", "pull", name, {"name": name})

    return await stream.run(pull())


def _auth(header: str) -> Auth | None:
    """Docker's X-Registry-Auth: base64url of JSON. Raises BadRequest."""
    if not header:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadRequest("X-Registry-Auth is not base64url of a JSON object")
    fields = {
        key: str(value.get(key) or "")
        for key in ("username", "password", "identitytoken", "registrytoken")
    }
    if not any(fields.values()):
        return None
    return Auth(
        username=fields["username"],
        password=fields["password"],
        identity_token=fields["identitytoken"],
        registry_token=fields["registrytoken"],
    )


async def load(request: web.Request) -> web.StreamResponse:
    """Load images from an archive, the body."""
    stream = _Stream(request)
    body = request.content.iter_chunked(_CHUNK)

    async def work() -> None:
        for image in await of(request).images.load(body, progress=stream.progress):
            name = image.repo_tags[0] if image.repo_tags else image.id
            of(request).pods.events.emit("image", "load", image.id, {"name": name})

    return await stream.run(work())


def _created(image: Image) -> int:
    with contextlib.suppress(ValueError):
        return unix_time(str(image.created or ""))
    return 0


async def listing(request: web.Request) -> web.Response:
    """The images, in Docker's form."""
    context = of(request)
    images = await asyncio.to_thread(context.images.list)
    return web.json_response(
        [
            {
                "Id": image.id,
                "RepoTags": list(image.repo_tags),
                "RepoDigests": list(image.repo_digests),
                "Created": _created(image),
                "Size": image.size,
                "VirtualSize": image.size,
                "Containers": sum(c.image_id == image.id for c in context.pods.containers),
                "Labels": (image.config.get("config") or {}).get("Labels") or {},
            }
            for image in images
        ]
    )


async def original_listing(request: web.Request) -> web.Response:
    """The images, in the original's form: REPOSITORY:TAG:ID:CREATED:SIZE."""
    images = await asyncio.to_thread(of(request).images.list)
    lines = [
        f"{tag}:{image.id}:{_created(image)}:{image.size}"
        for image in images
        for tag in list(image.repo_tags) or ["<none>:<none>"]
    ]
    return web.json_response({"imagesList": lines})


async def inspect(request: web.Request) -> web.Response:
    """Everything about an image, in Docker's form."""
    image = of(request).images.get(params.text(request, "imageName"))
    return web.json_response(
        {
            "Id": image.id,
            "RepoTags": list(image.repo_tags),
            "RepoDigests": list(image.repo_digests),
            "Created": str(image.created or ""),
            "Architecture": image.config.get("architecture", ""),
            "Os": image.config.get("os", ""),
            "Author": image.config.get("author", ""),
            "Config": image.config.get("config") or {},
            "Size": image.size,
            "VirtualSize": image.size,
            "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
            "Disks": [
                {
                    "Path": str(layer.path),
                    "Fstype": layer.fstype,
                    "Size": layer.size,
                }
                for layer in image.layers
            ],
        }
    )


async def remove(request: web.Request) -> web.Response:
    """Remove an image or one of its names."""
    context = of(request)
    removed = await context.images.remove(
        params.text(request, "imageId"),
        force=params.boolean(request, "force"),
        in_use=context.pods.uses_image,
    )
    for item in removed:
        if name := item.get("untagged"):
            context.pods.events.emit("image", "untag", name, {"name": name})
        elif image_id := item.get("deleted"):
            context.pods.events.emit("image", "delete", image_id, {"name": image_id})
    return web.json_response({"imagesList": removed})


ROUTES = [
    web.post("/image/create", create),
    web.post("/image/load", load),
    web.get("/images/json", listing),
    web.get("/images/get", original_listing),
    web.get("/image/json", inspect),
    web.delete("/image", remove),
]
