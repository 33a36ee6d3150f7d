"""The REST server: routes, versions in paths, errors as JSON, listeners."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import BadRequest, HyperError, to_wire
from .config import Config, check_exposure
from .config_values import ACTIVATION
from .context import CONTEXT, Context
from .metrics import METRICS, Metrics
from .params import MAX_BODY
from .route_table import routes
from .routing import Route
from .supervisor import name_of, need_sockets
from .tls import server_context

log = logging.getLogger(__name__)

_SHUTDOWN_BOUND = 2.0
_BACKLOG = 256
MAX_HEADERS = 64
_LINGER = 1.0  # seconds for which a body that nobody wants any more is read, after the answer

# Routes that may take as long as a container lives: they do not hold the end of hyperd up.
_PATIENT = (
    *("/attach", "/attach/ws", "/exec/start", "/exec/ws", "/execvm"),
    *("/exitcode", "/container/logs", "/events"),
)
_WAITING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("waiting", set)


def application(context: Context) -> web.Application:
    """The web application; each route also as /v1.2/PATH."""
    metrics = Metrics(context.pods, context.images)
    app = web.Application(
        middlewares=[metrics.count, _errors, _bounded, _browsers, _patient],
        client_max_size=MAX_BODY,
    )
    app[CONTEXT] = context
    app[METRICS] = metrics
    app[_WAITING] = set()
    for route in routes():
        app.router.add_route(route.method, route.path, _called(route))
        app.router.add_route(route.method, r"/v{version:\d[\d.]*}" + route.path, _called(route))
    return app


def _called(route: Route) -> Handler:
    """A coroutine function, which is what aiohttp takes for a handler."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await route(request)

    return handler


def error_response(error: HyperError) -> web.Response:
    """An error as JSON with its status."""
    return web.json_response(to_wire(error), status=error.status)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except HyperError as error:
        log.info("%s %s: %s", request.method, request.path_qs, error.message)
        return error_response(error)
    except web.HTTPException as error:
        return _http_error(request, error)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except OSError as error:
        log.exception("%s %s", request.method, request.path_qs)
        return error_response(HyperError(f"{request.path}: {error}"))
    except Exception as error:
        log.exception("%s %s", request.method, request.path_qs)
        text = f"internal error: {type(error).__name__}: {error}; hyperd's log has more"
        return error_response(HyperError(text))


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    words = {404: "no_such_route", 405: "no_such_method", 413: "too_large"}
    message = {
        404: f"there is no route {request.path}",
        405: f"{request.path} does not take {request.method}",
        413: f"the body is larger than {MAX_BODY} bytes",
    }.get(error.status, (error.reason or "bad request").lower())
    body = {"code": words.get(error.status, "bad_request"), "message": message}
    return web.json_response(body, status=error.status)


@web.middleware
async def _bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests with more headers than any client sends."""
    if len(request.raw_headers) > MAX_HEADERS:
        text = f"more than {MAX_HEADERS} headers"
        return web.json_response({"code": "too_many_headers", "message": text}, status=431)
    return await handler(request)


@web.middleware
async def _browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests that a page in a browser makes: it must not be root here."""
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        raise BadRequest("requests of web pages are refused")
    return await handler(request)


@web.middleware
async def _patient(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Know the requests that wait for a process, to end them when hyperd ends."""
    task = asyncio.current_task()
    if task is None or not request.path.endswith(_PATIENT):
        return await handler(request)
    waiting = request.app[_WAITING]
    waiting.add(task)
    try:
        return await handler(request)
    finally:
        waiting.discard(task)


class Listeners:
    """The sockets that hyperd answers on."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_BOUND,
            lingering_time=_LINGER,
        )
        self._paths: list[tuple[Path, int]] = []

    async def start(self, config: Config, passed: list[socket.socket]) -> list[str]:
        """Listen on the unix socket, on TCP and on what was passed; returns the addresses.

        Raises HyperError.
        """
        path, host = config.socket, config.host
        context = server_context(config)
        if host == ACTIVATION:
            need_sockets(passed)
        await self._runner.setup()
        for sock in passed:
            if sock.family != socket.AF_UNIX:
                check_exposure(config, sock.getsockname()[0], "LISTEN_FDS")
        sockets = passed if _is_among(path, passed) else [self._unix(path), *passed]
        for sock in sockets:
            tls = None if sock.family == socket.AF_UNIX else context
            await web.SockSite(self._runner, sock, ssl_context=tls, backlog=_BACKLOG).start()
        addresses = [name_of(sock) for sock in sockets]
        if host not in (None, ACTIVATION):
            try:
                site = web.TCPSite(
                    self._runner, host[0], host[1], ssl_context=context, backlog=_BACKLOG
                )
                await site.start()
            except OSError as error:
                raise HyperError(
                    f"listen on tcp://{host[0]}:{host[1]}: {error.strerror or error}"
                ) from error
            for address in self._runner.addresses:
                if isinstance(address, tuple):
                    addresses.append(f"tcp://{address[0]}:{address[1]}")
            addresses = list(dict.fromkeys(addresses))
        return addresses

    def _unix(self, path: Path) -> socket.socket:
        """A listening socket that only root can open; a stale one gives way."""
        if len(bytes(path)) > 107:
            raise HyperError(f"the socket's path {path} is longer than 107 bytes: use --socket")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_socket():
            raise HyperError(f"listen on {path}: there is a file that is not a socket")
        if path.exists() and _answers(path):
            raise HyperError(f"listen on {path}: another daemon answers there: use --socket")
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        except OSError as error:
            sock.close()
            raise HyperError(f"listen on {path}: {error.strerror or error}") from error
        finally:
            os.umask(before)
        self._paths.append((path, path.stat().st_ino))
        return sock

    async def stop(self) -> None:
        """Stop accepting, end the requests under way, remove the socket."""
        for path, inode in self._paths:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        waiting = self._app[_WAITING]
        for task in tuple(waiting):
            task.cancel()
        await self._runner.cleanup()


def _is_among(path: Path, sockets: list[socket.socket]) -> bool:
    """Whether one of the sockets is that of the path."""
    unix = [sock.getsockname() for sock in sockets if sock.family == socket.AF_UNIX]
    return path.resolve() in {Path(name).resolve() for name in unix if isinstance(name, str)}


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True
