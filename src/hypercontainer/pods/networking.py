"""Pods on the networks: where the pods' side and the networks' side meet."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from ..errors import BadRequest, Conflict, HyperError
from ..networks import Network, Networks, Port, Service, Wish
from ..sandbox import SandboxClient
from ..system.tasks import Tasks
from .model import Pod
from .names import check_name
from .place import Place
from .registry import Registry

Services = tuple[Service, ...]

log = logging.getLogger(__name__)


class Networking:
    """Pods on the networks."""

    def __init__(self, networks: Networks, registry: Registry) -> None:
        self.networks = networks
        self._registry = registry
        self._tasks = Tasks()
        networks.names_of = self._names

    def _names(self, pod_id: str) -> list[str]:
        """The names that a pod answers to, the first the one that it is known by."""
        pod = self._registry.pods.get(pod_id)
        if pod is None:
            return [pod_id]
        names = [c.name for c in pod.containers] if pod.single else [pod_id]
        names += [c.name for c in pod.containers]
        names += [c.short_id for c in pod.containers]
        return list(dict.fromkeys([*names, pod.hostname]))

    def place(self, pod: Pod) -> None:
        """Let the pod know its place."""
        pod.place = Place(self.networks, pod.id)

    @contextmanager
    def defined(self, pod: Pod) -> Iterator[None]:
        """Store what a new pod wants, unless the body fails.

        Raises NotFound, BadRequest, Conflict, NotSupported.
        """
        net = pod.spec.net
        ports = net.ports + (_exposed(pod) if net.publish_all else ())
        self.networks.define(pod.id, list(net.wishes), ports, pod.spec.dns, net.services)
        self.place(pod)
        try:
            yield
        except BaseException:
            self.networks.forget(pod.id)
            raise

    async def reconcile(self) -> None:
        """After a start of hyperd, or when the host's networks were changed by others."""
        for pod in self._registry.pods.values():
            self.place(pod)
        pods = self._registry.pods.values()
        live = {p.id for p in pods if p.client is not None or p.starting or p.suspended}
        await self.networks.reconcile(set(self._registry.pods), live)
        for pod in pods:
            if pod.client is not None:
                self._tasks.spawn(self._mend(pod, pod.client))
        self.networks.watch()

    async def _mend(self, pod: Pod, client: SandboxClient) -> None:
        async with pod.lock:
            try:
                if pod.client is client:
                    await self.networks.mend(pod.id, client)
            except (HyperError, OSError) as error:
                log.error("cards and ports of %s: %s", pod.id, error)

    async def close(self) -> None:
        """Stop looking after the networks; what there is stays."""
        self._tasks.cancel()
        await self.networks.close()

    async def create(self, name: str, request: dict[str, Any]) -> Network:
        """Make a network (see `networks.Networks.create`)."""
        check_name(name, "name")
        network = await self.networks.create(name, request)
        self._emit("create", network)
        return network

    async def remove(self, network: Network) -> None:
        """Remove a network. Raises Conflict while pods are in it."""
        await self.networks.remove(network)
        self._emit("destroy", network)

    async def claim(self, pod: Pod) -> None:
        """Give a pod that is to start its addresses and ports (see `networks.Networks.claim`)."""
        await self.networks.claim(pod.id, by_vmm=pod.spec.network == "user")

    async def connect(self, pod: Pod, wish: Wish) -> None:
        """Put a pod in a network, while it runs or not. Raises Conflict, NotFound, BadRequest."""
        async with pod.lock:
            if pod.spec.network == "user":
                raise Conflict(f"{pod.id} has QEMU's user-mode network, and can't be in another")
            await self.networks.connect(pod.id, wish, pod.client if pod.live else None)
        self._emit("connect", self.networks.registry.find(wish.network), pod)

    async def disconnect(self, pod: Pod, network: Network) -> None:
        """Take a pod out of a network. Raises NotFound, Conflict."""
        async with pod.lock:
            await self.networks.disconnect(pod.id, network, pod.client if pod.live else None)
        self._emit("disconnect", network, pod)

    async def publish(self, pod: Pod, ports: tuple[Port, ...]) -> None:
        """Publish further ports of a pod. Raises Conflict, BadRequest."""
        async with pod.lock:
            if pod.spec.network != "user" and not self.networks.registry.endpoints_of(pod.id):
                raise BadRequest(f"{pod.id} has no network, so no port can be published")
            await self.networks.publish(pod.id, ports, pod.client if pod.live else None)

    async def unpublish(self, pod: Pod, ports: tuple[Port, ...]) -> None:
        """Take published ports back. Raises NotFound."""
        async with pod.lock:
            await self.networks.unpublish(pod.id, ports, pod.client if pod.live else None)

    async def serve(self, pod: Pod, change: Callable[[Services], Services]) -> None:
        """Change the in-pod services of a pod, by what there is now."""
        async with pod.lock:
            services = change(self.services(pod))
            await self.networks.serve(pod.id, services, pod.client if pod.live else None)

    def services(self, pod: Pod) -> Services:
        """The in-pod services of a pod."""
        net = self.networks.registry.pods.get(pod.id)
        return net.services if net else ()

    def _emit(self, action: str, network: Network, pod: Pod | None = None) -> None:
        about = {"name": network.name, "type": "bridge"}
        if pod is not None:
            about["container"] = pod.containers[0].id if pod.single else pod.id
        self._registry.events.emit("network", action, network.id, about)

    @asynccontextmanager
    async def wired(self, pod: Pod, client: SandboxClient) -> AsyncIterator[None]:
        """Plug the cards and publish the ports of a new VM while the body runs."""
        wiring = asyncio.create_task(self.networks.wire(pod.id, client))
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                await wiring
            raise
        await wiring


def _exposed(pod: Pod) -> tuple[Port, ...]:
    """The ports that the images of a pod expose and that are not published as it is."""
    published = {(port.protocol, port.container_port) for port in pod.spec.net.ports}
    found: dict[tuple[str, int], Port] = {}
    for container in pod.containers:
        for text in container.image_config.get("ExposedPorts") or {}:
            number, _, protocol = str(text).partition("/")
            key = (protocol or "tcp", int(number) if number.isascii() and number.isdigit() else 0)
            if 0 < key[1] < 65536 and key[0] in ("tcp", "udp") and key not in published:
                found[key] = Port(*key)
    return tuple(found.values())
