"""Routes of containers' files, in Docker's wire form: archive, export, changes."""

import base64
import json
import posixpath
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ..errors import BadRequest, NotSupported
from ..guest.entries import Entry
from ..pods.filesystem import ContainerFiles
from ..pods.model import Container, Pod
from . import params
from .context import of
from .routing import CONTAINER, TAR, Body, Route, flag, text
from .tarstream import send_tar

_CHUNK = 1 << 16
_STAT = "X-Docker-Container-Path-Stat"
_KINDS = {"C": 0, "A": 1, "D": 2}
# Bits of Go's os.FileMode, which the header has.
_GO_TYPES = {"d": 1 << 31, "l": 1 << 27, "b": 1 << 26, "c": 1 << 26 | 1 << 21}
_GO_TYPES |= {"p": 1 << 25, "s": 1 << 24}
_GO_BITS = {0o4000: 1 << 23, 0o2000: 1 << 22, 0o1000: 1 << 20}


def _container(request: web.Request) -> tuple[Pod, Container]:
    service = of(request).pods
    container = service.container(params.text(request, "container"))
    return service.pod_of(container), container


def _path(request: web.Request) -> str:
    path = params.text(request, "path")
    if "\0" in path or len(path.encode(errors="surrogateescape")) > 4000:
        raise BadRequest("path: more than 4000 bytes, or a zero byte")
    return path if path.startswith("/") else f"/{path}"


async def archive_stat(request: web.Request) -> web.Response:
    """What is at a path of a container, in the header X-Docker-Container-Path-Stat."""
    pod, container = _container(request)
    path = _path(request)
    async with of(request).pods.files.open(pod, container) as files:
        return web.Response(headers={_STAT: await _stat_header(files, path)})


async def archive_get(request: web.Request) -> web.StreamResponse:
    """A tar archive of a file or directory of a container."""
    pod, container = _container(request)
    path = _path(request)
    async with of(request).pods.files.open(pod, container) as files:
        headers = {_STAT: await _stat_header(files, path)}
        return await _send(request, files.get(path), headers)


async def archive_put(request: web.Request) -> web.Response:
    """Unpack a tar archive, the body, in a directory of a container."""
    if params.boolean(request, "copyUIDGID"):
        raise NotSupported("copyUIDGID: not supported: the archive's owners are kept")
    pod, container = _container(request)
    path = _path(request)
    async with of(request).pods.files.open(pod, container) as files:
        await files.put(path, request.content.iter_chunked(_CHUNK))
    return web.json_response({})


async def export(request: web.Request) -> web.StreamResponse:
    """A tar archive of a container's root file system, without its volumes."""
    pod, container = _container(request)
    async with of(request).pods.files.open(pod, container, volumes=False) as files:
        return await _send(request, files.export(), {})


async def changes(request: web.Request) -> web.Response:
    """What differs from the image: Kind is 0 (changed), 1 (added) or 2 (deleted)."""
    pod, container = _container(request)
    async with of(request).pods.files.open(pod, container, volumes=False) as files:
        found = await files.changes()
    return web.json_response([{"Path": c.path, "Kind": _KINDS[c.kind]} for c in found])


async def _send(
    request: web.Request, pieces: AsyncIterator[bytes], headers: dict[str, str]
) -> web.StreamResponse:
    async with aclosing(pieces):  # type: ignore[type-var]
        return await send_tar(request, pieces, headers)


async def _stat_header(files: ContainerFiles, path: str) -> str:
    """Docker's form: base64 of JSON. A path that ends in a slash is followed."""
    entry = await files.stat(path, follow=path.endswith(("/", "/.")))
    return base64.b64encode(json.dumps(_stat(entry, path)).encode()).decode()


def _stat(entry: Entry, path: str) -> dict[str, Any]:
    mode = entry.mode & 0o777 | _GO_TYPES.get(entry.type, 0)
    for bit, go in _GO_BITS.items():
        if entry.mode & bit:
            mode |= go
    target = ""
    if entry.type == "l":
        directory = posixpath.dirname(posixpath.normpath(path))
        target = posixpath.normpath(posixpath.join(directory, entry.target))
    moment = datetime.fromtimestamp(max(entry.seconds, 0), UTC)
    name = posixpath.basename(posixpath.normpath(path)) or "/"
    return {
        "name": name,
        "size": entry.size,
        "mode": mode,
        "mtime": moment.isoformat().replace("+00:00", "Z"),
        "linkTarget": target,
    }


PATH = text("path", "a path in the container", required=True)
ROUTES = [
    Route(
        "HEAD",
        "/container/archive",
        archive_stat,
        CONTAINER,
        PATH,
        answer="the header `X-Docker-Container-Path-Stat`: base64 of"
        " `{name, size, mode, mtime, linkTarget}`, `mode` as Go's FileMode",
    ),
    Route(
        "GET",
        "/container/archive",
        archive_get,
        CONTAINER,
        PATH,
        answer="a tar archive of the file or directory, with that header; the first name is the"
        " path's last, `.` for one that ends in `/.`",
        media=TAR,
    ),
    Route(
        "PUT",
        "/container/archive",
        archive_put,
        CONTAINER,
        PATH,
        flag("copyUIDGID", "refused: the archive's owners are kept"),
        body=Body("the archive: plain, gzip, bzip2, xz", TAR),
        answer="`{}`; a directory is never replaced by something else, nor the reverse",
    ),
    Route(
        "GET",
        "/container/export",
        export,
        CONTAINER,
        answer="a tar archive, without what is mounted in it",
        media=TAR,
    ),
    Route(
        "GET",
        "/container/changes",
        changes,
        CONTAINER,
        answer="`[{Path, Kind}]`: 0 changed, 1 added, 2 deleted",
    ),
]
