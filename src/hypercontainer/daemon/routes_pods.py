"""Routes of pods."""

import json

from aiohttp import web

from ..errors import BadRequest, NotRunning
from ..pods import life, views
from ..pods.model import Pod, Status
from ..pods.reading import Node
from ..pods.spec_container import MAX_GRACE
from ..pods.values import parse_signal
from . import params
from .context import of
from .routes_containers import DISK
from .routing import POD, Body, Route, flag, json_value, number, text


async def create(request: web.Request) -> web.Response:
    """Create a pod from a UserPod."""
    pod = of(request).pods.create(await params.body_object(request))
    answer = {
        "ID": pod.id,
        "Containers": [c.id for c in pod.containers],
        "Code": 0,
        "Cause": "",
    }
    return web.json_response(answer, status=201)


async def create_container(request: web.Request) -> web.Response:
    """Create a container from a UserContainer in a pod that exists, running or not."""
    pod = _pod(request)
    container = await of(request).pods.add_container(pod, await params.body_object(request))
    return web.json_response({"ID": container.id}, status=201)


def _pod(request: web.Request, name: str = "podId") -> Pod:
    return of(request).pods.pod(params.text(request, name))


async def start(request: web.Request) -> web.Response:
    """Start a pod."""
    await of(request).pods.start(_pod(request))
    return web.json_response({})


async def stop(request: web.Request) -> web.Response:
    """Stop a pod; `timeout` is in seconds."""
    pod = _pod(request)
    await of(request).pods.stop(pod, None, params.integer(request, "timeout", 0, MAX_GRACE))
    return web.json_response({"ID": pod.id, "Code": 0, "Cause": ""})


async def kill(request: web.Request) -> web.Response:
    """Signal one container of a pod, or all."""
    service = of(request).pods
    pod = _pod(request, "podName" if "podName" in request.query else "podId")
    signum = parse_signal(request.query.get("signal") or "15", "signal")
    chosen = pod.containers
    if name := request.query.get("container"):
        chosen = [service.container(name)]
        if chosen[0].pod_id != pod.id:
            raise BadRequest(f"container {name} is not in pod {pod.id}")
    live = [c for c in chosen if c.live]
    if not live:
        raise NotRunning(f"pod {pod.id} is not running")
    for container in live:
        await service.kill(container, signum)
    return web.json_response({})


async def pause(request: web.Request) -> web.Response:
    """Stop a pod's VM for a while."""
    to_disk = params.boolean(request, "disk")
    await of(request).pods.pause(_pod(request), True, to_disk=to_disk)
    return web.Response(status=204)


async def unpause(request: web.Request) -> web.Response:
    """Let a pod's VM go on."""
    await of(request).pods.pause(_pod(request), False)
    return web.Response(status=204)


async def remove(request: web.Request) -> web.Response:
    """Remove a pod."""
    pod = _pod(request)
    await of(request).pods.remove(pod, force=params.boolean(request, "force"), volumes=True)
    return web.json_response({"ID": pod.id, "Code": 0, "Cause": ""})


async def label(request: web.Request) -> web.Response:
    """Give a pod more labels."""
    node = Node({"labels": json.loads(params.text(request, "labels"))})
    override = params.boolean(request, "override")
    await life.label(of(request).pods, _pod(request), node.mapping("labels"), override=override)
    return web.json_response({}, status=201)


async def info(request: web.Request) -> web.Response:
    """PodInfo."""
    name = "podName" if "podName" in request.query else "podId"
    return web.json_response(views.pod_info(_pod(request, name)))


async def listing(request: web.Request) -> web.Response:
    """The original's list: lines of fields joined by colons."""
    item = request.query.get("item") or "pod"
    pods = list(of(request).pods.pods.values())
    if wanted := request.query.get("pod"):
        pods = [of(request).pods.pod(wanted)]
    if wanted := request.query.get("vm"):
        pods = [pod for pod in pods if pod.client is not None and pod.id == wanted]
    if item == "pod":
        lines = [
            f"{p.id}:{p.id}:{p.id if p.client else ''}:{views.pod_phase(p).lower()}" for p in pods
        ]
        return web.json_response({"item": item, "podData": lines})
    if item == "container":
        lines = [
            f"{c.id}:/{c.name}:{p.id}:{views.container_phase(c)}"
            for p in pods
            for c in p.containers
        ]
        return web.json_response({"item": item, "cData": lines})
    if item == "vm":
        lines = [f"{p.id}:{p.id}:{_vm_status(p)}" for p in pods if p.client]
        return web.json_response({"item": item, "vmData": lines})
    raise BadRequest(f"item: {item!r} is none of pod, container, vm")


def _vm_status(pod: Pod) -> str:
    paused = any(c.state.status == Status.PAUSED for c in pod.containers)
    return "paused" if paused else "associated"


GRACE = number("timeout", 0, MAX_GRACE, "seconds; default: each container's")
ROUTES = [
    Route(
        "POST",
        "/pod/create",
        create,
        body=Body("a [pod specification](pod-spec.md)", schema="Pod"),
        answer="`{ID, Containers: [id…]}`; 404 names the missing image; no VM is started",
        status=201,
    ),
    Route(
        "POST",
        "/container/create",
        create_container,
        POD,
        body=Body("a container of a [pod specification](pod-spec.md)", schema="Container"),
        answer="`{ID}`; a running pod takes containers too",
        status=201,
    ),
    Route("POST", "/pod/start", start, POD, answer="`{}`; containers that run are left alone"),
    Route(
        "POST", "/pod/stop", stop, POD, GRACE, original=("stopVm",), answer="`{ID, Code, Cause}`"
    ),
    Route(
        "POST",
        "/pod/kill",
        kill,
        text("podName", "or `podId`"),
        text("podId"),
        text("container", "only this one"),
        text("signal", "name or number (15)"),
    ),
    Route("POST", "/pod/pause", pause, POD, DISK, answer="nothing", status=204),
    Route("POST", "/pod/unpause", unpause, POD, answer="nothing", status=204),
    Route(
        "DELETE",
        "/pod",
        remove,
        POD,
        flag("force"),
        answer="`{ID, Code, Cause}`; 409 while it runs, unless `force`",
    ),
    Route(
        "POST",
        "/pod/labels",
        label,
        POD,
        json_value("labels", "`{name: value}`", required=True),
        flag("override", "also those that it has with other values; else they are a 409"),
        status=201,
    ),
    Route("GET", "/pod/info", info, text("podName", "or `podId`"), text("podId"), answer="PodInfo"),
    Route(
        "GET",
        "/list",
        listing,
        text("item", choices=("pod", "container", "vm")),
        text("pod"),
        text("vm"),
        answer='`{item, podData or cData or vmData: ["id:name:…"]}`',
    ),
]
