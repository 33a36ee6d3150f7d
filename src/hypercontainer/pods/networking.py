"""Pods on the networks: where the pods' side and the networks' side meet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from ..networks import Networks
from ..sandbox import SandboxClient
from .model import Pod
from .place import Place
from .registry import Registry


class Networking:
    """Pods on the networks."""

    def __init__(self, networks: Networks, registry: Registry) -> None:
        self.networks = networks
        self._registry = registry
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
        self.networks.define(pod.id, list(net.wishes), net.ports, pod.spec.dns)
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
        live = {p.id for p in self._registry.pods.values() if p.client is not None or p.starting}
        await self.networks.reconcile(set(self._registry.pods), live)

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
