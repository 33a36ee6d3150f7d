"""The route that builds images, in Docker's wire form."""

import base64
import binascii
import json
from typing import Any

from aiohttp import web

from ..build.builder import Builder, Options
from ..build.context import receive
from ..errors import BadRequest, NotSupported
from ..guest import platforms
from ..images import Auth
from ..images.login import host_of
from ..images.reference import parse
from . import params
from .context import of
from .jsonlines import LineStream
from .routing import LINES, TAR, Body, Route, flag, json_value, number, text, texts

_CHUNK = 1 << 20
_MIB = 1 << 20
_DEFAULT_MEMORY = 512
_TOP_MEMORY = 1 << 42


async def build(request: web.Request) -> web.StreamResponse:
    """Build an image of a context, the body: a tar archive with a Dockerfile."""
    if remote := request.query.get("remote", ""):
        raise NotSupported(f"remote={remote}: not supported: send the context as the body")
    memory = params.integer(request, "memory", 0, _TOP_MEMORY) or 0
    options = Options(
        tags=[name for name in request.query.getall("name", []) if name],
        dockerfile=request.query.get("dockerfile") or "Dockerfile",
        arguments=params.texts(request, "buildargs"),
        labels=params.texts(request, "labels"),
        target=request.query.get("target", ""),
        use_cache=not params.boolean(request, "nocache"),
        pull=params.boolean(request, "pull"),
        platform=platforms.normal(request.query.get("platform", "")),
        memory_mib=-(-memory // _MIB) or _DEFAULT_MEMORY,
        auths=_auths(request.headers.get("X-Registry-Config", "")),
    )
    for tag in options.tags:
        if parse(tag).digest:
            raise BadRequest(f"name: {tag}: give a tag, not a digest")
    quiet = params.boolean(request, "q")
    context, stream = of(request), LineStream(request)

    def tell(line: dict[str, Any]) -> None:
        if not quiet or "aux" in line:
            stream.progress(line)

    with context.images.scratch() as folder:
        raw = folder / "context"
        await receive(request.content.iter_chunked(_CHUNK), raw)

        async def work() -> None:
            image = await Builder(context.pods, options, folder, raw, tell).run()
            if quiet:
                stream.progress({"stream": f"{image.id}\n"})
            name = options.tags[0] if options.tags else image.id
            context.pods.events.emit("image", "build", image.id, {"name": name})

        return await stream.run(work())


def _auths(header: str) -> dict[str, Auth]:
    """Docker's X-Registry-Config: base64url of a JSON object of AuthConfigs by registry."""
    if not header:
        return {}
    try:
        value = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
        return {
            host_of(str(host)): Auth(
                str(entry.get("username") or ""),
                str(entry.get("password") or ""),
                str(entry.get("identitytoken") or ""),
                str(entry.get("registrytoken") or ""),
            )
            for host, entry in value.items()
        }
    except (binascii.Error, ValueError, RecursionError, AttributeError):
        raise BadRequest("X-Registry-Config is not base64url of a JSON object") from None


ROUTES = [
    Route(
        "POST",
        "/image/build",
        build,
        texts("name", "what to call the image; several times"),
        text("dockerfile", "its path in the context; `Dockerfile` unless given"),
        text("remote", "not supported"),
        flag("q", "only the id"),
        flag("nocache"),
        flag("pull", "pull base images also when they are here"),
        number("memory", 0, _TOP_MEMORY, "bytes of the VMs of RUN; 512 MiB unless given"),
        json_value("buildargs", "an object"),
        json_value("labels", "an object"),
        text("target", "the stage to build"),
        text("platform", "that of the image: `linux/amd64` (the default) or `linux/arm64`"),
        original=("rm", "forcerm"),
        headers=("X-Registry-Config",),
        body=Body("the context: a tar archive, plain or compressed", TAR),
        answer="progress: `{stream}`, then `{aux: {ID}}`",
        media=LINES,
    ),
]
