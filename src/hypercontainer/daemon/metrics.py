"""Figures of this hyperd for Prometheus (exposition format, text 0.0.4)."""

import time
from collections import Counter as Tally
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import __version__
from ..images import ImageStore
from ..pods.model import Status
from ..pods.service import PodService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STARTS = ("/pod/start", "/container/start")
_STEPS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30, 60)


class Metrics:
    """The registry of one hyperd, and what counts requests for it."""

    def __init__(self, pods: PodService, images: ImageStore) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(pods, images))
        self._requests = Counter(
            "hyperd_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._starts = Histogram(
            "hyperd_start_seconds",
            "Time of starts that were asked for, of a pod or a container",
            buckets=_STEPS,
            registry=self._registry,
        )

    def render(self) -> bytes:
        """All figures, now."""
        return generate_latest(self._registry)

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request by its route, and time starts that succeed."""
        begun = time.monotonic()
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical.removeprefix("/v{version}") if resource else "none"
        self._requests.labels(request.method, route, str(response.status)).inc()
        if route in _STARTS and response.status < 300:
            self._starts.observe(time.monotonic() - begun)
        return response


class _State(Collector):
    """What there is, looked at when it is asked for."""

    def __init__(self, pods: PodService, images: ImageStore) -> None:
        self._pods = pods
        self._images = images

    def collect(self) -> Iterable[Metric]:
        """Part of Collector."""
        yield GaugeMetricFamily("hyperd_up", "hyperd is there", value=1)
        build = GaugeMetricFamily("hyperd_build_info", "Version of hyperd", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build
        containers = self._pods.containers
        yield _by_state(Tally(c.state.status.value for c in containers))
        healths = Tally(c.state.health for c in containers if c.live and c.state.health)
        health = GaugeMetricFamily(
            "hyperd_containers_health", "Running containers by health", labels=("health",)
        )
        for name, number in sorted(healths.items()):
            health.add_metric((name,), number)
        yield health
        yield GaugeMetricFamily(
            "hyperd_containers_restarts",
            "Restarts by policy of the containers that are there",
            value=sum(c.state.restarts for c in containers),
        )
        live = [pod for pod in self._pods.pods.values() if pod.live]
        yield GaugeMetricFamily("hyperd_pods", "Pods", value=len(self._pods.pods))
        yield GaugeMetricFamily("hyperd_vms", "Virtual machines that run", value=len(live))
        yield GaugeMetricFamily(
            "hyperd_vm_memory_bytes",
            "Memory given to the virtual machines that run",
            value=sum(pod.spec.memory for pod in live) << 20,
        )
        yield GaugeMetricFamily(
            "hyperd_vm_cpus",
            "CPUs given to the virtual machines that run",
            value=sum(pod.spec.vcpu for pod in live),
        )
        images = self._images.list()
        yield GaugeMetricFamily("hyperd_images", "Images", value=len(images))
        layers = {layer.diff_id: layer.size for image in images for layer in image.layers}
        yield GaugeMetricFamily(
            "hyperd_layers_bytes", "Disk space of the layers of images", value=sum(layers.values())
        )


def _by_state(states: "Tally[str]") -> GaugeMetricFamily:
    family = GaugeMetricFamily("hyperd_containers", "Containers by state", labels=("state",))
    for status in Status:
        family.add_metric((status.value,), states[status.value])
    return family


METRICS = web.AppKey("metrics", Metrics)


async def metrics(request: web.Request) -> web.Response:
    """Figures for Prometheus."""
    return web.Response(body=request.app[METRICS].render(), headers={"Content-Type": CONTENT_TYPE})
