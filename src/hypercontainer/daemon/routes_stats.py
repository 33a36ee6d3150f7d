"""Routes about what containers use and run."""

import asyncio
import json
from typing import Any

from aiohttp import web

from ..errors import BadRequest
from ..pods import stats
from ..pods.model import Container
from ..pods.service import PodService
from . import params
from .context import of
from .routing import CONTAINER, LINES, POD, Route, flag, text

_INTERVAL = 1.0


class _Sampler:
    """Takes samples of containers, each with the one before."""

    def __init__(self, service: PodService) -> None:
        self._service = service
        self._last: dict[str, stats.Sample] = {}

    async def take(self, containers: list[Container]) -> list[dict[str, Any]]:
        """The statistics of those containers that are still there."""
        known = [c for c in containers if self._service.knows(c)]
        samples = await asyncio.gather(*(stats.sample(self._service.pod_of(c), c) for c in known))
        before, self._last = self._last, {}
        result = []
        for container, sample in zip(known, samples, strict=True):
            if not self._service.knows(container):
                continue
            last = before.get(container.id, stats.EMPTY)
            self._last[container.id] = sample
            pod = self._service.pod_of(container)
            result.append(stats.stats(pod, container, last, sample))
        return result


async def container_stats(request: web.Request) -> web.StreamResponse:
    """What containers use: of one `container` an object a second, in Docker's form.

    Of several (`containers`, with commas), or of all that run, arrays of them.
    Without `stream` there is one, after a second, or at once with `one-shot`
    and then without the sample before.
    """
    service = of(request).pods
    single = request.query.get("container")
    names = [single] if single else (request.query.get("containers") or "").split(",")
    chosen = [service.container(name) for name in names if name]
    stream = params.boolean(request, "stream", default=True)

    def current() -> list[Container]:
        return chosen or [c for c in service.containers if c.live]

    sampler = _Sampler(service)
    if not params.boolean(request, "one-shot"):
        await sampler.take(current())
        await asyncio.sleep(_INTERVAL)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    while True:
        found = await sampler.take(current())
        if not response.prepared:
            await response.prepare(request)
        if chosen and not found:
            break  # they were removed
        value = found[0] if single else found
        await response.write(json.dumps(value).encode() + b"\n")
        if not stream:
            break
        await asyncio.sleep(_INTERVAL)
    await response.write_eof()
    return response


async def pod_stats(request: web.Request) -> web.Response:
    """What a pod uses, in the form of the original's PodStats."""
    service = of(request).pods
    pod = service.pod(params.text(request, "podId"))
    found = await _Sampler(service).take([c for c in pod.containers if c.live])
    return web.json_response(stats.pod_stats(found))


async def top(request: web.Request) -> web.Response:
    """The processes of a container, in Docker's form; pids are the guest's."""
    service = of(request).pods
    container = service.container(params.text(request, "container"))
    if request.query.get("ps_args"):
        raise BadRequest("ps_args: the processes are listed by the guest's init, not by ps")
    listed = await service.client_of(container).processes(container.id)
    titles, rows = stats.titles_and_rows(listed)
    service.events.container("top", service.pod_of(container), container)
    return web.json_response({"Titles": titles, "Processes": rows})


ROUTES = [
    Route(
        "GET",
        "/container/stats",
        container_stats,
        text("container", "one"),
        text("containers", "several, with commas; neither: all that run"),
        flag("stream", "`0`: once, after a second"),
        flag("one-shot", "at once"),
        answer="an object each second, in Docker's form, with `vm` (what the VM takes of the host);"
        " arrays of them for several",
        media=LINES,
    ),
    Route("GET", "/pod/stats", pod_stats, POD, answer="PodStats"),
    Route(
        "GET",
        "/container/top",
        top,
        CONTAINER,
        text("ps_args", "refused: the guest's init lists them, not ps"),
        answer="`{Titles, Processes}`; pids are the guest's",
    ),
]
