"""Routes of images; progress goes as lines of JSON in Docker's form."""

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from ..build.settings import with_changes
from ..errors import NotSupported
from ..guest import platforms
from ..images import Image
from ..images.auth import from_header
from ..images.making import Packed
from ..images.pruning import is_between
from ..pods.architecture import check_platform
from ..pods.model import now
from ..pods.views import unix_time
from . import params
from .context import of
from .jsonlines import LineStream
from .routes_making import lines_of, name_of
from .routing import LINES, TAR, Body, Route, flag, json_value, text, texts

_CHUNK = 1 << 20


async def create(request: web.Request) -> web.StreamResponse:
    """Pull an image, or import one (`fromSrc=-`)."""
    if request.query.get("fromSrc"):
        return await _import_archive(request)
    name = params.text(request, "imageName")
    tag = request.query.get("tag")
    if tag:
        name = f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"
    auth = from_header(request.headers.get("X-Registry-Auth", ""))
    platform = platforms.normal(request.query.get("platform", ""))
    stream = LineStream(request)

    async def pull() -> None:
        images = of(request).images
        await images.pull(name, auth=auth, progress=stream.progress, platform=platform)
        of(request).pods.events.emit("image", "pull", name, {"name": name})

    return await stream.run(pull())


async def _import_archive(request: web.Request) -> web.StreamResponse:
    """Make an image of a root file system, the body: a tar archive."""
    source = request.query["fromSrc"]
    if source != "-":
        raise NotSupported(f"fromSrc={source}: not supported: send the archive as the body (-)")
    name = name_of(request.query.get("repo", ""), request.query.get("tag", ""))
    message = request.query.get("message", "")
    created = now()
    config: dict[str, Any] = {
        "created": created,
        "architecture": platforms.NATIVE,
        "os": "linux",
        "config": with_changes({}, lines_of(request.query.getall("changes", []))),
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


async def load(request: web.Request) -> web.StreamResponse:
    """Load images from an archive, the body."""
    stream = LineStream(request)
    body = request.content.iter_chunked(_CHUNK)
    name, refs = request.query.get("name", ""), params.texts(request, "refs")

    async def work() -> None:
        images = of(request).images
        for image in await images.load(body, stream.progress, name=name, refs=refs):
            shown = image.repo_tags[0] if image.repo_tags else image.id
            of(request).pods.events.emit("image", "load", image.id, {"name": shown})

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
            if params.boolean(request, "all") or not is_between(image)
        ]
    )


async def original_listing(request: web.Request) -> web.Response:
    """The images, in the original's form: REPOSITORY:TAG:ID:CREATED:SIZE."""
    images = await asyncio.to_thread(of(request).images.list)
    lines = [
        f"{tag}:{image.id}:{_created(image)}:{image.size}"
        for image in images
        if params.boolean(request, "all") or not is_between(image)
        for tag in list(image.repo_tags) or ["<none>:<none>"]
    ]
    return web.json_response({"imagesList": lines})


async def inspect(request: web.Request) -> web.Response:
    """Everything about an image, in Docker's form."""
    name = params.text(request, "imageName")
    image = of(request).images.get(name)
    check_platform(image, platforms.normal(request.query.get("platform", "")), name)
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


IMAGE = text("imageName", "name or id", required=True)
PLATFORM = text("platform", "only an image for that platform, such as `linux/arm64`")
ROUTES = [
    Route(
        "POST",
        "/image/create",
        create,
        text("imageName", "the image to pull"),
        text("tag"),
        text("platform", "which of its platforms: `linux/amd64` (the default) or `linux/arm64`"),
        text("fromSrc", "`-`: import the body, a tar archive of a root file system"),
        text("repo", "import: the new image's name"),
        text("message", "import: for its history"),
        texts("changes", "import: instructions of a Dockerfile; several times"),
        headers=("X-Registry-Auth",),
        body=Body("import: a tar archive", TAR, required=False),
        answer="progress",
        media=LINES,
    ),
    Route(
        "POST",
        "/image/load",
        load,
        text("name", "OCI layouts: images are called NAME:REF"),
        json_value("refs", "OCI layouts: an object: image names by reference name"),
        body=Body("a tar archive of `docker save` or in OCI layout", TAR),
        answer="progress",
        media=LINES,
    ),
    Route(
        "GET",
        "/images/json",
        listing,
        flag("all", "also steps of builds"),
        original=("filter", "filters"),
        answer="a list of `{Id, RepoTags, RepoDigests, Created, Size, Containers}`",
    ),
    Route(
        "GET",
        "/images/get",
        original_listing,
        flag("all", "also steps of builds"),
        original=("filter", "filters"),
        answer='`{imagesList: ["repository:tag:id:created:size"]}`',
    ),
    Route("GET", "/image/json", inspect, IMAGE, PLATFORM, answer="everything, in Docker's form"),
    Route(
        "DELETE",
        "/image",
        remove,
        text("imageId", "name or id", required=True),
        flag("force"),
        original=("noprune",),
        answer="`{imagesList: [{untagged or deleted}]}`",
    ),
]
