"""Routes of in-pod services, in the original's wire form."""

import json
from typing import Any

from aiohttp import web

from ..errors import BadRequest, Conflict, NotFound
from ..networks import Service
from ..pods.model import Pod
from ..pods.reading import Node
from ..pods.spec_network import read_services
from . import params
from .context import of
from .routing import POD, Route, json_value

# The original's answer to every change.
_DONE = ["Result=success"]
Services = tuple[Service, ...]


def _pod(request: web.Request) -> Pod:
    return of(request).pods.pod(params.text(request, "podId"))


def _given(request: web.Request) -> Services:
    try:
        items = json.loads(params.text(request, "services"))
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise BadRequest("services: a JSON array is expected")
    nodes = [Node(item, f"services[{index}]") for index, item in enumerate(items)]
    return read_services(nodes)


async def listing(request: web.Request) -> web.Response:
    """The services of a pod."""
    services = of(request).pods.networking.services(_pod(request))
    return web.json_response([_view(service) for service in services])


def _view(service: Service) -> dict[str, Any]:
    return {
        "serviceIP": service.ip,
        "servicePort": service.port,
        "protocol": service.protocol,
        "hosts": [{"hostIP": ip, "hostPort": port} for ip, port in service.backends],
    }


async def add(request: web.Request) -> web.Response:
    """Add services to a pod."""
    given = _given(request)

    def change(known: Services) -> Services:
        for service in given:
            if any(service.key == other.key for other in known):
                raise Conflict(f"service {service.ip}:{service.port} is there already: update it")
        return known + given

    await of(request).pods.networking.serve(_pod(request), change)
    return web.json_response(_DONE)


async def update(request: web.Request) -> web.Response:
    """Replace all services of a pod."""
    given = _given(request)
    await of(request).pods.networking.serve(_pod(request), lambda _: given)
    return web.json_response(_DONE)


async def remove(request: web.Request) -> web.Response:
    """Take services away from a pod."""
    given = _given(request)

    def change(known: Services) -> Services:
        for service in given:
            if not any(service.key == other.key for other in known):
                raise NotFound(f"no such service: {service.ip}:{service.port}/{service.protocol}")
        gone = {service.key for service in given}
        return tuple(service for service in known if service.key not in gone)

    await of(request).pods.networking.serve(_pod(request), change)
    return web.json_response(_DONE)


SERVICES = json_value("services", "an array of a pod's `services`", required=True)
ROUTES = [
    Route("GET", "/service/list", listing, POD, answer="an array of services"),
    Route(
        "POST",
        "/service/add",
        add,
        POD,
        SERVICES,
        answer='`["Result=success"]`; 409 for one that is there',
    ),
    Route("POST", "/service/update", update, POD, SERVICES, answer='`["Result=success"]`'),
    Route("DELETE", "/service", remove, POD, SERVICES, answer='`["Result=success"]`'),
]
