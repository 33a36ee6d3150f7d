"""Routes of containers' streams and of processes run in them."""

import asyncio
import json

from aiohttp import web

from ..errors import BadRequest, NotRunning, NotSupported, Timeout
from ..pods.model import Container
from ..pods.spec_container import MAX_GRACE
from ..pods.values import parse_signal
from . import attaching, logs, params
from .context import of
from .hijack import Hijack, check_upgrade
from .logfiles import Query
from .routing import CONTAINER, FRAMES, Body, Route, flag, json_value, number, text

_RAW = "application/vnd.docker.raw-stream"
_MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


def _container(request: web.Request) -> Container:
    return of(request).pods.container(params.text(request, "container"))


async def attach(request: web.Request) -> web.StreamResponse:
    """Take the streams of a container, or of an exec of it; one that does not run yet is waited
    for."""
    attaching.check_takeover(request)
    service, container = of(request).pods, _container(request)
    if exec_id := request.query.get("exec"):
        hijack = await attaching.attach_exec(request, service, container, exec_id)
    else:
        hijack = await attaching.attach(request, service, container)
    return hijack.response


async def exec_create(request: web.Request) -> web.Response:
    """Prepare a process in a running container."""
    service = of(request).pods
    container = _container(request)
    service.client_of(container)
    if request.can_read_body:
        wanted = await params.body(request)
    else:
        wanted = {
            "command": _json(params.text(request, "command"), "command"),
            "tty": params.boolean(request, "tty"),
            "stdin": params.boolean(request, "stdin", default=True),
        }
    created = service.execs.create(service.pod_of(container), container, wanted)
    return web.json_response(created.id, status=201)


def _json(value: str, name: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadRequest(f"{name}: {value!r} is not JSON") from None


async def exec_start(request: web.Request) -> web.StreamResponse:
    """Run a prepared process and take its streams, unless it was created detached."""
    service = of(request).pods
    container = _container(request)
    prepared = await service.execs.find(params.text(request, "exec"), container)
    if not prepared.detach:
        attaching.check_takeover(request)
    keys = attaching.detach_keys(request, tty=prepared.tty)
    client = service.client_of(container)
    streams = await asyncio.shield(service.execs.start(prepared, container, client))
    if streams is None:
        return web.json_response({})
    hijack = await attaching.take_over(request)
    frames = prepared.tty or attaching.frames_wanted(request)
    how = {"stdin": prepared.stdin, "keys": keys, "frames": frames}
    await attaching.carry_exec(hijack, client, prepared, streams, **how)
    return hijack.response


async def exec_by_websocket(request: web.Request) -> web.StreamResponse:
    """Run a prepared process and carry its streams by WebSocket, or those of one that runs."""
    attaching.check_takeover(request)
    service, container = of(request).pods, _container(request)
    prepared = await service.execs.find(params.text(request, "exec"), container)
    if prepared.detach and not prepared.started:
        raise BadRequest(f"exec {prepared.id} was created to run detached: use /exec/start")
    if prepared.started:
        carrier = await attaching.attach_exec(request, service, container, prepared.id)
        return carrier.response
    return await exec_start(request)


async def exec_kill(request: web.Request) -> web.Response:
    """Signal a process that an exec started; 15 unless `signal` says another."""
    service = of(request).pods
    container = _container(request)
    found = await service.execs.find(params.text(request, "exec"), container)
    signum = parse_signal(request.query.get("signal") or "15", "signal")
    if not found.started or found.exit_code is not None:
        raise NotRunning(f"exec {found.id} is not running")
    await service.client_of(container).signal(*found.place, signum)
    return web.json_response({})


async def exec_in_vm(request: web.Request) -> web.StreamResponse:
    """Run a process in a pod's VM outside its containers and take its streams, raw."""
    check_upgrade(request)
    service = of(request).pods
    pod = service.pod(params.text(request, "pod"))
    container = next((c for c in pod.containers if c.live), None)
    if container is None:
        raise NotRunning(f"pod {pod.id} is not running")
    command = _json(params.text(request, "command"), "command")
    tty = params.boolean(request, "tty")
    wanted = {"command": command, "stdin": True, "tty": tty, "vm": True}
    prepared = service.execs.create(pod, container, wanted)
    client = service.client_of(container)
    streams = await asyncio.shield(service.execs.start(prepared, container, client))
    assert streams is not None
    hijack = Hijack(request, exec_id=prepared.id)
    keys = attaching.detach_keys(request, tty=tty)
    how = {"stdin": True, "keys": keys, "frames": tty}
    await attaching.carry_exec(hijack, client, prepared, streams, **how)
    return hijack.response


async def exec_info(request: web.Request) -> web.Response:
    """An exec, in the form of Docker's GET /exec/ID/json."""
    service = of(request).pods
    found = await service.execs.find(params.text(request, "exec"))
    return web.json_response(
        {
            "ID": found.id,
            "ContainerID": found.container_id,
            "Running": found.started and found.exit_code is None,
            "ExitCode": found.exit_code,
            "OpenStdin": found.stdin,
            "ProcessConfig": {
                "entrypoint": found.args[0],
                "arguments": found.args[1:],
                "tty": found.tty,
            },
        }
    )


async def exit_code(request: web.Request) -> web.Response:
    """Wait for an end; its code. With `removed` also until nothing is left of the container."""
    service = of(request).pods
    reference = params.text(request, "container")
    timeout = params.integer(request, "timeout", 0, MAX_GRACE)
    exec_id = request.query.get("exec")
    try:
        async with asyncio.timeout(timeout):
            if exec_id:
                return web.json_response(await _exec_code(request, reference, exec_id))
            removed = params.boolean(request, "removed")
            return web.json_response(await service.exit_code(reference, removed=removed))
    except TimeoutError:
        raise Timeout(f"{reference} still runs after {timeout} s") from None


async def _exec_code(request: web.Request, reference: str, exec_id: str) -> int:
    service = of(request).pods
    found = await service.execs.find(exec_id, service.container(reference))
    if not found.started:
        raise BadRequest(f"exec {exec_id} was not started")
    await found.ended.wait()
    assert found.exit_code is not None
    return found.exit_code


async def resize(request: web.Request) -> web.Response:
    """Set the size of a terminal, `h` rows by `w` columns."""
    container = _container(request)
    rows, columns = (params.integer(request, name, 0, 65535) for name in ("h", "w"))
    if rows is None or columns is None:
        raise BadRequest(f"{request.path}: the parameters h and w are needed")
    process = request.query.get("exec") or "init"
    await of(request).pods.resize(container, process, rows, columns)
    return web.json_response({})


async def container_logs(request: web.Request) -> web.StreamResponse:
    """What a container wrote."""
    service = of(request).pods
    container = _container(request)
    pod = service.pod_of(container)
    query = _log_query(request)
    log = service.log_of(container)
    if not log.keeps:
        raise NotSupported(f"container {container.name} keeps no log: its log driver is {log.type}")
    raw = container.spec.tty
    response = web.StreamResponse(headers={"Content-Type": _RAW if raw else _MULTIPLEXED})
    response.enable_chunked_encoding()
    await response.prepare(request)

    def may_grow() -> bool:
        return container.live

    follow = may_grow if params.boolean(request, "follow") else None
    path = service.layout.log(pod.id, container.id)
    async for piece in logs.read(path, query, raw=raw, follow=follow):
        await response.write(piece)
    await response.write_eof()
    return response


def _log_query(request: web.Request) -> Query:
    stdout, stderr = params.boolean(request, "stdout"), params.boolean(request, "stderr")
    if not stdout and not stderr:
        raise BadRequest("stdout, stderr: one of them is to be true")
    since, until = request.query.get("since") or "", request.query.get("until") or ""
    tail = request.query.get("tail") or "all"
    return Query(
        stdout=stdout,
        stderr=stderr,
        since=logs.parse_time(since, "since") if since else 0,
        until=logs.parse_time(until, "until") if until else None,
        details=params.boolean(request, "details"),
        timestamps=params.boolean(request, "timestamps"),
        tail=None if tail == "all" else params.integer(request, "tail", 0, 1 << 31),
    )


EXEC = text("exec", "the exec's id", required=True)
DETACH_KEYS = text("detachKeys", "as Docker writes them (`ctrl-p,ctrl-q`)")
ROUTES = [
    Route(
        "GET",
        "/container/logs",
        container_logs,
        CONTAINER,
        flag("stdout"),
        flag("stderr"),
        text("since", "seconds or RFC 3339"),
        text("until", "the same"),
        flag("timestamps"),
        flag("details"),
        flag("follow"),
        text("tail", "a number or `all`"),
        answer="the log; framed as streams are, raw for a terminal",
        media=FRAMES,
    ),
    Route(
        "POST",
        "/attach",
        attach,
        CONTAINER,
        flag("stdin"),
        flag("logs", "what was written before, first"),
        flag("stream", "`0`: only that"),
        DETACH_KEYS,
        text("exec", "the streams of a started exec instead"),
        answer="the streams",
        takeover=True,
    ),
    Route(
        "GET",
        "/attach/ws",
        attach,
        CONTAINER,
        flag("stdin"),
        flag("logs", "what was written before, first"),
        flag("stream", "`0`: only that"),
        flag("frames", "tell stdout and stderr apart by frames"),
        DETACH_KEYS,
        text("exec", "the streams of a started exec instead"),
        answer="the streams, by WebSocket",
        takeover=True,
    ),
    Route(
        "POST",
        "/exec/create",
        exec_create,
        CONTAINER,
        json_value("command", "without a body: a JSON array"),
        flag("tty", "without a body"),
        flag("stdin", "without a body"),
        body=Body(
            '`{command: […], tty, stdin, detach, env: ["K=V"…], user, workdir}`',
            schema="Exec",
            required=False,
        ),
        answer="the exec's id as a JSON string",
        status=201,
    ),
    Route(
        "POST",
        "/exec/start",
        exec_start,
        CONTAINER,
        EXEC,
        DETACH_KEYS,
        answer="the streams; `{}` for one created with `detach`",
        takeover=True,
    ),
    Route(
        "GET",
        "/exec/ws",
        exec_by_websocket,
        CONTAINER,
        EXEC,
        flag("stdin", "of one that runs: `0`: leave it alone"),
        flag("frames", "tell stdout and stderr apart by frames"),
        DETACH_KEYS,
        answer="the streams, by WebSocket",
        takeover=True,
    ),
    Route(
        "POST",
        "/exec/kill",
        exec_kill,
        CONTAINER,
        EXEC,
        text("signal", "name or number (15)"),
    ),
    Route(
        "POST",
        "/execvm",
        exec_in_vm,
        text("pod", "its id", required=True),
        json_value("command", "a JSON array", required=True),
        flag("tty"),
        DETACH_KEYS,
        answer="the streams",
        takeover=True,
    ),
    Route(
        "GET",
        "/exec/info",
        exec_info,
        EXEC,
        answer="`{ID, ContainerID, Running, ExitCode, OpenStdin, ProcessConfig}`",
    ),
    Route(
        "GET",
        "/exitcode",
        exit_code,
        CONTAINER,
        text("exec"),
        number("timeout", 0, MAX_GRACE, "seconds"),
        flag("removed", "not before an `autoRemove` container has left nothing behind"),
        answer="an integer, when the process has ended (128+n for a death by signal n); also for"
        " containers removed a while ago",
    ),
    Route(
        "POST",
        "/tty/resize",
        resize,
        CONTAINER,
        text("exec", "empty: the container's first process"),
        number("h", 0, 65535, "rows"),
        number("w", 0, 65535, "columns"),
    ),
]
