"""Routes about hyperd itself."""

import asyncio
import os
import platform
import socket

from aiohttp import web

from .. import __version__
from ..hypervisor import foreign
from ..pods.model import Status
from .context import of
from .metrics import metrics
from .routing import Route

API_VERSION = "1.17"
_QEMU = "qemu-system-x86_64"
_QEMU_BOUND = 10.0
_qemu_version: list[str] = []


async def ping(request: web.Request) -> web.Response:
    """OK."""
    return web.Response(text="OK")


async def version(request: web.Request) -> web.Response:
    """Versions of the parts."""
    config = of(request).config
    return web.json_response(
        {
            "version": __version__,
            "api_version": API_VERSION,
            "kernel": config.kernel or "auto",
            "accel": config.engine,
            "qemu": await _qemu(),
            "python": platform.python_version(),
            "os": _os_name(),
            "pid": os.getpid(),
            "ID": socket.gethostname(),
            "Version": __version__,
        }
    )


async def info(request: web.Request) -> web.Response:
    """Numbers of things and where they are."""
    context = of(request)
    containers = context.pods.containers
    states = [c.state.status for c in containers]
    images = await asyncio.to_thread(context.images.list)
    return web.json_response(
        {
            "ID": socket.gethostname(),
            "Name": socket.gethostname(),
            "Containers": len(containers),
            "ContainersRunning": states.count(Status.RUNNING),
            "ContainersPaused": states.count(Status.PAUSED),
            "ContainersStopped": len(states)
            - states.count(Status.RUNNING)
            - states.count(Status.PAUSED),
            "Pods": len(context.pods.pods),
            "Images": len(images),
            "Driver": "block",
            "DriverStatus": [["Base size", str(context.config.storage_base_size)]],
            "DockerRootDir": str(context.config.root),
            "StateDir": str(context.config.state_dir),
            "IndexServerAddress": "",
            "ExecutionDriver": f"qemu ({context.config.engine})",
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "NCPU": os.cpu_count(),
            "Platforms": await asyncio.to_thread(_platforms),
            "Operating System": _os_name(),
            "KernelVersion": platform.release(),
            "Version": __version__,
        }
    )


def _platforms() -> list[str]:
    return [name for name, trouble in foreign.platforms().items() if not trouble]


async def _qemu() -> str:
    """QEMU's version, asked for once."""
    if not _qemu_version:
        try:
            process = await asyncio.create_subprocess_exec(
                _QEMU,
                "--version",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            async with asyncio.timeout(_QEMU_BOUND):
                output, _ = await process.communicate()
        except (OSError, TimeoutError):
            return ""
        words = output.decode(errors="replace").split()
        _qemu_version.append(words[3] if len(words) > 3 else "")
    return _qemu_version[0]


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


async def openapi(request: web.Request) -> web.Response:
    """The routes, as programs read them."""
    from .openapi import document
    from .route_table import routes

    return web.json_response(document(routes()))


ROUTES = [
    Route("GET", "/metrics", metrics, answer="Prometheus' text format", media="text/plain"),
    Route("GET", "/openapi.json", openapi, answer="this reference as an OpenAPI 3.0 document"),
    Route("GET", "/_ping", ping, answer="`OK`", media="text/plain"),
    Route(
        "GET",
        "/version",
        version,
        answer="`{version, api_version, kernel, accel, qemu, python, os, pid}`",
    ),
    Route(
        "GET", "/info", info, answer="numbers of containers, pods and images; directories, memory"
    ),
]
