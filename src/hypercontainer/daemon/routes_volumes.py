"""Routes of volumes, in Docker's wire form."""

from typing import Any

from aiohttp import web

from ..errors import BadRequest, NotFound
from ..pods.own_volumes import volume_users
from ..volumes import Volume
from . import params
from .context import of
from .routes_events import filters
from .routing import Body, Route, flag, json_value, text

_KEYS = ("name", "driver", "driveropts", "labels", "clustervolumespec")


def _view(request: web.Request, volume: Volume) -> dict[str, Any]:
    users = volume_users(of(request).pods).get(volume.name, [])
    return {**volume.to_json(), "UsedBy": sorted(users)}


async def create(request: web.Request) -> web.Response:
    """Make a volume; one that is there with the same options is returned."""
    body = {key.lower(): value for key, value in (await params.body_object(request)).items()}
    for key in body:
        if key not in _KEYS:
            raise BadRequest(f"{key}: unknown key: there are Name, Driver, DriverOpts and Labels")
    service = of(request).pods
    name, driver = _text(body, "name"), _text(body, "driver")
    known = name in service.volumes
    volume = service.volumes.create(
        name, driver, _mapping(body, "driveropts"), _mapping(body, "labels")
    )
    if not known:
        service.events.emit("volume", "create", volume.name, {"driver": volume.driver})
    return web.json_response(_view(request, volume), status=201)


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise BadRequest(f"{key}: a string is expected")
    return value or ""


def _mapping(body: dict[str, Any], key: str) -> dict[str, str]:
    value = body.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadRequest(f"{key}: an object of strings is expected")
    return value


async def listing(request: web.Request) -> web.Response:
    """The volumes that match `filters`: name, driver, label, dangling."""
    service = of(request).pods
    found = service.volumes.select(filters(request), volume_users(service))
    return web.json_response({"Volumes": [v.to_json() for v in found], "Warnings": None})


async def inspect(request: web.Request) -> web.Response:
    """A volume, and the containers that use it."""
    volume = of(request).pods.volumes.get(params.text(request, "name"))
    return web.json_response(_view(request, volume))


async def remove(request: web.Request) -> web.Response:
    """Remove a volume that no container uses; with `force` it need not be there."""
    service = of(request).pods
    name = params.text(request, "name")
    try:
        await service.volumes.remove(name, volume_users(service).get(name, ()))
    except NotFound:
        if not params.boolean(request, "force"):
            raise
    else:
        service.events.emit("volume", "destroy", name, {})
    return web.Response(status=204)


async def prune(request: web.Request) -> web.Response:
    """Remove the anonymous volumes that no container uses, or all with the filter `all`."""
    service = of(request).pods
    wanted = filters(request)
    everything = any(v.lower() in ("1", "true") for v in wanted.pop("all", []))
    removed, size = await service.volumes.prune(
        volume_users(service), wanted, everything=everything
    )
    for name in removed:
        service.events.emit("volume", "destroy", name, {})
    return web.json_response({"VolumesDeleted": removed, "SpaceReclaimed": size})


NAME = text("name", required=True)
ROUTES = [
    Route(
        "POST",
        "/volume/create",
        create,
        body=Body("`{Name, Driver, DriverOpts, Labels}`", schema="Volume"),
        answer="the volume; without a name an anonymous one",
        status=201,
    ),
    Route(
        "GET",
        "/volumes",
        listing,
        json_value("filters", "`{name, driver, label, dangling: [value…]}`"),
        answer="`{Volumes: […], Warnings}`",
    ),
    Route(
        "GET",
        "/volume/inspect",
        inspect,
        NAME,
        answer="`{Name, Driver, Mountpoint, Labels, Options, CreatedAt, Scope, UsedBy}`",
    ),
    Route(
        "DELETE",
        "/volume",
        remove,
        NAME,
        flag("force", "it need not be there"),
        answer="nothing; 409 when a container uses it",
        status=204,
    ),
    Route(
        "POST",
        "/volumes/prune",
        prune,
        json_value("filters", "keys `label`, `all`"),
        answer="`{VolumesDeleted, SpaceReclaimed}`: anonymous ones that no container uses, with"
        " `all` named ones too",
    ),
]
