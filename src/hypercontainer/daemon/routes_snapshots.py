"""Routes of snapshots and forks: pods saved with what runs in them, and copies of them."""

from typing import Any

from aiohttp import web

from ..pods.copies import MAX_COPIES
from ..pods.model import Pod
from ..pods.snapshots import Snapshot, read_wanted
from . import params
from .context import of
from .routing import CONTAINER, Body, Route, number, text


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    about = snapshot.about
    return {
        "Name": snapshot.directory.name,
        "Created": about["created"],
        "Pod": about["pod"],
        "Containers": [{"Name": c["name"], "Image": c["image"]} for c in about["containers"]],
        "Vcpu": about["vcpu"],
        "Memory": about["memory_mib"],
        "MemoryUsed": about["memory"],
        "Size": snapshot.size(),
        "PausedMs": about["paused_ms"],
    }


def _created(pod: Pod) -> dict[str, Any]:
    return {"ID": pod.id, "Containers": [container.id for container in pod.containers]}


async def create(request: web.Request) -> web.Response:
    """Save the pod of a container with what runs in it; it goes on."""
    service = of(request).pods
    pod = service.pod(params.text(request, "container"))
    name = params.text(request, "name")
    snapshot = await service.whole(service.copies.snapshot(pod, name))
    return web.json_response(_shown(snapshot), status=201)


async def listing(request: web.Request) -> web.Response:
    """All snapshots that can be read."""
    return web.json_response([_shown(s) for s in of(request).pods.copies.store.all()])


async def inspect(request: web.Request) -> web.Response:
    """Everything about a snapshot."""
    snapshot = of(request).pods.copies.store.get(params.text(request, "name"))
    about = snapshot.about
    more = {"Directory": str(snapshot.directory), "Files": about["files"], "Spec": about["raw"]}
    return web.json_response({**_shown(snapshot), **more})


async def remove(request: web.Request) -> web.Response:
    """Remove a snapshot; copies of it go on."""
    await of(request).pods.copies.store.remove(params.text(request, "name"))
    return web.json_response({})


async def run(request: web.Request) -> web.Response:
    """Continue a snapshot as a new pod, with an identity and an address of its own."""
    service = of(request).pods
    wanted = read_wanted(await params.body_object(request) if request.can_read_body else {})
    pod = await service.whole(service.copies.run(params.text(request, "name"), wanted))
    return web.json_response(_created(pod), status=201)


async def fork(request: web.Request) -> web.Response:
    """Make copies of the running pod of a container: all of them, or none."""
    service = of(request).pods
    pod = service.pod(params.text(request, "container"))
    count = params.integer(request, "count", 1, MAX_COPIES) or 1
    wanted = read_wanted(await params.body_object(request) if request.can_read_body else {})
    pods = await service.whole(service.copies.fork(pod, count, wanted))
    return web.json_response([_created(pod) for pod in pods], status=201)


_NAME = text("name", required=True)
_COPY = Body(
    "what a copy has of its own: `id`, `hostname`, `labels`, `autoRemove`, `network`, `networks`,"
    " `portmappings`, `publishAllPorts` of a [pod specification](pod-spec.md)",
    schema="Copy",
    required=False,
)
ROUTES = [
    Route(
        "POST",
        "/snapshot/create",
        create,
        CONTAINER,
        _NAME,
        answer="the snapshot; `PausedMs` is how long the pod stood still",
        status=201,
    ),
    Route(
        "GET",
        "/snapshots",
        listing,
        answer="a list of `{Name, Created, Pod, Containers, Vcpu, Memory, MemoryUsed, Size,"
        " PausedMs}`",
    ),
    Route(
        "GET", "/snapshot/inspect", inspect, _NAME, answer="that, `Directory`, `Files` and `Spec`"
    ),
    Route("DELETE", "/snapshot", remove, _NAME),
    Route(
        "POST",
        "/snapshot/run",
        run,
        _NAME,
        body=_COPY,
        answer="`{ID, Containers: [id…]}` once they run",
        status=201,
    ),
    Route(
        "POST",
        "/container/fork",
        fork,
        CONTAINER,
        number("count", 1, MAX_COPIES, "copies (1)"),
        body=_COPY,
        answer="a list of `{ID, Containers: [id…]}`",
        status=201,
    ),
]
