"""Attaching to containers: what they wrote before, then their streams."""

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from ..client.detach import parse_keys
from ..errors import BadRequest, HyperError, NotSupported
from ..pods.execs import Exec
from ..pods.model import Container
from ..pods.service import PodService
from ..sandbox import SandboxClient
from . import logs, params
from .carrying import Carrier, Streams
from .hijack import Hijack, check_upgrade
from .logfiles import Mark, Query
from .websocket import WebSocket, check_websocket


def detach_keys(request: web.Request, *, tty: bool) -> bytes:
    """The keys that end the input for a terminal; none without one. Raises BadRequest."""
    keys = parse_keys(request.query.get("detachKeys") or "")
    return keys if tty else b""


def check_takeover(request: web.Request) -> None:
    """Raises BadRequest when the client is not prepared to have its connection taken over."""
    (check_websocket if _by_websocket(request) else check_upgrade)(request)


def _by_websocket(request: web.Request) -> bool:
    return request.path.endswith("/ws")


async def take_over(request: web.Request) -> Carrier:
    """Make the connection one that carries streams."""
    if not _by_websocket(request):
        return Hijack(request)
    socket = WebSocket(request)
    await socket.open()
    return socket


def frames_wanted(request: web.Request) -> bool:
    """Whether stdout and stderr are to be told apart: by WebSocket, only where that is asked."""
    return not _by_websocket(request) or params.boolean(request, "frames")


async def attach(request: web.Request, service: PodService, container: Container) -> Carrier:
    """Carry the streams of a container, and before them its log if that is wanted.

    One that does not run yet is waited for. Raises BadRequest, NotSupported, NotFound.
    """
    tty = container.spec.tty
    stdin, keys = params.boolean(request, "stdin"), detach_keys(request, tty=tty)
    frames = tty or frames_wanted(request)
    wants_log, wants_streams = (
        params.boolean(request, "logs"),
        params.boolean(request, "stream", default=True),
    )
    if wants_log and not service.log_of(container).keeps:
        kind = service.log_of(container).type
        raise NotSupported(f"container {container.name} keeps no log: its log driver is {kind}")
    hijack = await take_over(request)
    try:
        streams, mark = None, None
        if wants_log and wants_streams and container.live:
            mark, streams = await _attach_after(service, container, stdin=stdin)
        if wants_log:
            raw = tty or not frames
            await _replay(hijack, service, container, mark, raw=raw)
        if wants_streams and streams is None:
            streams = await service.attach(container, stdin=stdin, gone=hijack.gone)
    except BaseException:
        await hijack.close()
        raise
    if streams is None:
        await hijack.close()
        return hijack
    pod = service.pod_of(container)
    service.events.container("attach", pod, container)
    client = pod.client
    left = True
    try:
        left = await hijack.carry(streams, stdin=stdin, keys=keys, frames=frames)
    finally:  # a client that goes cancels this
        if left:
            service.events.container("detach", pod, container)
            if stdin and not container.spec.tty and client is not None:
                await _end_input(client, container.id, "init")
    return hijack


async def _end_input(client: SandboxClient, cid: str, pid: str) -> None:
    """A client has left: without a terminal that is the end of its input."""
    with contextlib.suppress(HyperError):
        await client.close_stdin(cid, pid)


async def carry_exec(
    hijack: Carrier, client: SandboxClient, prepared: Exec, streams: Streams, **how: Any
) -> None:
    """Carry the streams of an exec."""
    left = True
    try:
        left = await hijack.carry(streams, **how)
    finally:
        if left and how["stdin"] and not prepared.tty:
            await _end_input(client, *prepared.place)


async def _attach_after(
    service: PodService, container: Container, *, stdin: bool
) -> tuple[dict[str, Any], Streams]:
    client = service.client_of(container)
    try:
        mark, reader, writer = await client.attach_after(container.id, stdin=stdin)
    except BadRequest:
        mark, reader, writer = await client.attach_after(container.id, stdin=False)
    return mark, (reader, writer)


async def _replay(
    hijack: Carrier,
    service: PodService,
    container: Container,
    mark: dict[str, Any] | None,
    *,
    raw: bool,
) -> None:
    """Send the log, up to what the streams go on from."""
    path = service.layout.log(container.pod_id, container.id)
    end = Mark(mark["inode"], mark["size"]) if mark and "inode" in mark else None
    async for piece in logs.read(path, Query(), raw=raw, follow=None, end=end):
        await hijack.write(piece)
    for stream, text in (mark or {}).get("unfinished", {}).items():
        await hijack.write(logs.frame(stream, text.encode(errors="surrogateescape"), raw=raw))


async def attach_exec(
    request: web.Request, service: PodService, container: Container, exec_id: str
) -> Carrier:
    """Carry the streams of an exec that was started already. Raises NotFound, Conflict."""
    prepared = await service.execs.find(exec_id, container)
    if not prepared.started:
        raise BadRequest(f"exec {exec_id} was not started: use /exec/start")
    stdin = params.boolean(request, "stdin", default=prepared.stdin) and prepared.stdin
    keys = detach_keys(request, tty=prepared.tty)
    client = service.client_of(container)
    cid, pid = prepared.place
    streams = await asyncio.shield(client.attach(cid, pid, stdin=stdin))
    hijack = await take_over(request)
    frames = prepared.tty or frames_wanted(request)
    how = {"stdin": stdin, "keys": keys, "frames": frames}
    await carry_exec(hijack, client, prepared, streams, **how)
    return hijack
