"""Routes of containers."""

import asyncio
from functools import partial

from aiohttp import web

from ..errors import NotFound
from ..images import ImageStore
from ..pods import views
from ..pods.filters import ContainerFilter
from ..pods.life import disk_usage
from ..pods.model import Container, Status
from ..pods.spec_container import MAX_GRACE
from ..pods.values import parse_signal
from . import params
from .context import of
from .routes_events import filters
from .routing import CONTAINER, Route, flag, json_value, number, text


def _container(request: web.Request) -> Container:
    return of(request).pods.container(params.text(request, "container"))


def _one(request: web.Request) -> Container:
    return of(request).pods.one(params.text(request, "container"))


async def listing(request: web.Request) -> web.Response:
    """The running containers, or all; newest first."""
    service = of(request).pods
    limit = params.integer(request, "limit", 1, 1 << 31)
    wanted = ContainerFilter(service, filters(request), partial(_layers, of(request).images))
    everything = params.boolean(request, "all") or limit is not None or wanted.names_states
    chosen = [
        c
        for c in service.containers
        if (everything or c.live or c.state.status == Status.RESTARTING)
        and wanted.matches(service.pod_of(c), c)
    ]
    chosen.sort(key=lambda c: c.created_at, reverse=True)
    chosen = chosen[:limit]
    summaries = [views.summary(service.pod_of(c), c) for c in chosen]
    if params.boolean(request, "size"):
        for summary, container in zip(summaries, chosen, strict=True):
            summary |= await _sizes(request, container)
    return web.json_response(summaries)


def _layers(images: ImageStore, image: str) -> list[str]:
    """The layers of an image, lowest first. Raises NotFound."""
    return list(images.get(image).config["rootfs"]["diff_ids"])


async def _sizes(request: web.Request, container: Container) -> dict[str, int]:
    """What a container has written, and that with its image, in bytes on disk."""
    context = of(request)
    written = await asyncio.to_thread(disk_usage, context.pods.layout.upper(container.id))
    try:
        image = context.images.get(container.image_id).size
    except NotFound:
        image = 0
    return {"SizeRw": written, "SizeRootFs": written + image}


async def info(request: web.Request) -> web.Response:
    """ContainerInfo."""
    container = _container(request)
    return web.json_response(views.container_info(of(request).pods.pod_of(container), container))


async def inspect(request: web.Request) -> web.Response:
    """Everything about a container."""
    service = of(request).pods
    container = _container(request)
    pod = service.pod_of(container)
    return web.json_response(
        views.inspect(service.layout, pod, container, service.log_of(container))
    )


async def start(request: web.Request) -> web.Response:
    """Start a container, and its pod's VM when that does not run."""
    service = of(request).pods
    container = _one(request)
    await service.start(service.pod_of(container), [container])
    return web.json_response({})


async def stop(request: web.Request) -> web.Response:
    """Stop a container; `timeout` is in seconds."""
    service = of(request).pods
    container = _one(request)
    grace = params.integer(request, "timeout", 0, MAX_GRACE)
    await service.stop(service.pod_of(container), [container], grace)
    return web.json_response({})


async def kill(request: web.Request) -> web.Response:
    """Signal a container's first process; 15 unless `signal` says another."""
    signum = parse_signal(request.query.get("signal") or "15", "signal")
    await of(request).pods.kill(_one(request), signum)
    return web.json_response({}, status=201)


async def pause(request: web.Request) -> web.Response:
    """Stop a container for a while: its VM where it is alone in it, else its processes."""
    service, container = of(request).pods, _container(request)
    to_disk = params.boolean(request, "disk")
    await service.pause(service.pod_of(container), True, container, to_disk=to_disk)
    return web.Response(status=204)


async def unpause(request: web.Request) -> web.Response:
    """Let a paused container go on."""
    service, container = of(request).pods, _container(request)
    await service.pause(service.pod_of(container), False, container)
    return web.Response(status=204)


async def remove(request: web.Request) -> web.Response:
    """Remove a container; with the last one of a pod goes the pod."""
    service = of(request).pods
    container = _one(request)
    force = params.boolean(request, "force")
    volumes = params.boolean(request, "v") or params.boolean(request, "volumes")
    await service.remove(service.pod_of(container), [container], force=force, volumes=volumes)
    return web.Response(status=204)


_FILTERS = (
    "`{key: [value…]}` with the keys `ancestor`, `before`, `exited`, `health`, `id`, `label`,"
    " `name` (a pattern), `network`, `pod`, `since`, `status`, `volume`; `status` is of all"
)
GRACE = number("timeout", 0, MAX_GRACE, "seconds")
DISK = flag("disk", "save its pod on disk, and end the VM until it is unpaused")
ROUTES = [
    Route(
        "GET",
        "/containers",
        listing,
        flag("all"),
        number("limit", 0, 1 << 31, "the last so many, running or not"),
        flag("size", "with `SizeRw`, `SizeRootFs`"),
        json_value("filters", _FILTERS),
        answer="a list of `{Id, Names, Image, ImageID, Command, Created, State, Status, Pod,"
        " Labels}`, newest first",
    ),
    Route("GET", "/container/info", info, CONTAINER, answer="ContainerInfo"),
    Route(
        "GET",
        "/container/json",
        inspect,
        CONTAINER,
        answer="everything, in Docker's form, with `Pod` and `VM`",
    ),
    Route("POST", "/container/start", start, CONTAINER),
    Route("POST", "/container/stop", stop, CONTAINER, GRACE, answer="`{}` once it has ended"),
    Route(
        "POST",
        "/container/kill",
        kill,
        CONTAINER,
        text("signal", "name or number (15)"),
        status=201,
    ),
    Route("POST", "/container/pause", pause, CONTAINER, DISK, answer="nothing", status=204),
    Route("POST", "/container/unpause", unpause, CONTAINER, answer="nothing", status=204),
    Route(
        "POST",
        "/container/remove",
        remove,
        CONTAINER,
        flag("force"),
        flag("v", "its anonymous volumes too"),
        flag("volumes", "the same"),
        answer="nothing; with the last container of a pod goes the pod",
        status=204,
    ),
]
