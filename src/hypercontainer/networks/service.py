"""Networks and what pods have of them: what hyperd's pods call."""

import asyncio
import contextlib
import logging
import os
from typing import Any

from ..errors import Conflict, HyperError, NotFound
from ..sandbox import SandboxClient
from . import links, ports
from .host import HostSide
from .model import Endpoint, Network, PodNet, Port, Service, Wish

log = logging.getLogger(__name__)


class Networks(HostSide):
    """Networks, and what pods have of them."""

    # Networks

    async def create(self, name: str, request: dict[str, Any]) -> Network:
        """Make a network with its bridge. Raises BadRequest, Conflict, NotSupported."""
        self.require()
        async with self._lock:
            own = {n.bridge for n in self.registry.networks.values()}
            host = await asyncio.to_thread(links.host_subnets, own)
            network = self.registry.plan(name, request, host)
            try:
                await asyncio.to_thread(links.ensure_bridge, network, self._owner)
                self.registry.add(network)
            except BaseException:
                await self._drop_bridge(network.bridge)
                raise
            self._made[network.id] = network.bridge
        await self._apply()
        return network

    async def remove(self, network: Network) -> None:
        """Remove a network and its bridge. Raises Conflict while pods are in it."""
        async with self._lock:
            self.registry.check_removable(network)
            self.registry.drop(network)
            self._made.pop(network.id, None)
            if not self.lacking:
                await self._drop_bridge(network.bridge)
        await self._apply()

    # What pods have

    def define(
        self,
        pod: str,
        wishes: list[Wish],
        wanted: tuple[Port, ...],
        dns: tuple[str, ...],
        services: tuple[Service, ...] = (),
    ) -> None:
        """Store what a new pod wants. Raises NotFound, BadRequest, Conflict."""
        endpoints: list[Endpoint] = []
        self.registry.forget(pod)
        try:
            for wish in wishes:
                self.require()
                self.registry.save(PodNet(pod), endpoints)
                endpoints.append(self.registry.endpoint(pod, wish))
            self.registry.save(PodNet(pod, dns, wanted, services=services), endpoints)
        except BaseException:
            self.registry.forget(pod)
            raise

    def forget(self, pod: str) -> None:
        """A pod is removed."""
        net, endpoints = self.registry.pods.get(pod), self.registry.endpoints_of(pod)
        if net is None:
            return
        self.registry.forget(pod)
        if net.active:
            self._tasks.spawn(self._refresh(net.ports, endpoints))

    async def claim(self, pod: str, *, by_vmm: bool = False) -> None:
        """Give a pod that is to start its addresses and ports; the bridges are there then.

        `by_vmm`: QEMU passes its ports on, so they need no network. A pod in none has no ports
        otherwise, until it is put in one. Raises Conflict (a port or an address is taken),
        NotSupported.
        """
        net = self.registry.pods.get(pod)
        if net is None:
            return
        endpoints = self.registry.endpoints_of(pod)
        for endpoint in endpoints:
            await self._ensure(self._network(endpoint))
        if net.wanted_ports and (endpoints or by_vmm):
            net.ports = ports.resolve(net.wanted_ports, self._ports_of_others(pod))
        net.active = True
        try:
            for endpoint in endpoints:
                self.registry.allocate(endpoint)
            self.registry.save(net, endpoints)
        except BaseException:
            self._deactivate(net, endpoints)
            raise

    def _ports_of_others(self, pod: str) -> list[tuple[str, Port]]:
        return [
            (other.pod, port)
            for other in self.registry.pods.values()
            if other.active and other.pod != pod
            for port in other.ports
        ]

    async def wire(self, pod: str, client: SandboxClient) -> None:
        """Plug a starting pod's cards, publish its ports, make its names known."""
        net = self.registry.pods.get(pod)
        if net is None:
            return
        endpoints = self.registry.endpoints_of(pod)
        work = [self._plug(endpoint, client) for endpoint in endpoints]
        if net.ports:
            work.append(self._publish(pod, net.ports, client))
        if net.services:
            work.append(client.set_services([s.to_guest() for s in net.services]))
        if endpoints:
            work.append(self._write_names())
        await _all(work)

    async def _publish(self, pod: str, published: tuple[Port, ...], client: SandboxClient) -> None:
        await client.publish([port.to_json() for port in published], self._target(pod))
        await self._apply()

    def _target(self, pod: str) -> str:
        endpoint = self._published_at(pod)
        return (endpoint.ipv4 or endpoint.ipv6) if endpoint else ""

    async def _plug(self, endpoint: Endpoint, client: SandboxClient) -> None:
        network = self._network(endpoint)
        tap = await asyncio.to_thread(links.make_tap, network.bridge, network.mtu)
        try:
            await client.plug(self._card(endpoint, network), tap)
        finally:
            os.close(tap)

    def _card(self, endpoint: Endpoint, network: Network) -> dict[str, Any]:
        addresses = {4: endpoint.ipv4, 6: endpoint.ipv6}
        return {
            "device": endpoint.device,
            "network": network.name,
            "mac": endpoint.mac,
            "mtu": network.mtu,
            "addresses": [
                f"{addresses[s.version]}/{s.subnet.partition('/')[2]}" for s in network.subnets
            ],
            "gateways": [] if network.internal else [s.gateway for s in network.subnets],
            "resolvers": [network.subnets[0].gateway],
            "bridge": network.bridge,
            "records": str(self._names),
        }

    async def release(self, pod: str) -> None:
        """A pod's VM is gone: its addresses and ports are free."""
        net = self.registry.pods.get(pod)
        if net is None or not net.active:
            return
        had_ports, endpoints = net.ports, self.registry.endpoints_of(pod)
        self._deactivate(net, endpoints)
        try:
            self.registry.save(net, endpoints)
            if endpoints:
                await self._write_names()
            if had_ports:
                await self._apply()
                await self._forget_flows(had_ports, endpoints)
        except (HyperError, OSError) as error:
            log.error("networks of %s: %s", pod, error)

    # Changes of a pod that runs

    async def connect(self, pod: str, wish: Wish, client: SandboxClient | None) -> None:
        """Put a pod in a network; its card is plugged if it runs (`client`)."""
        self.require()
        net = self.registry.pods.get(pod) or PodNet(pod)
        endpoint = self.registry.endpoint(pod, wish)
        before = self.registry.endpoints_of(pod)
        if client is None:
            self.registry.save(net, [*before, endpoint])
            return
        await self._ensure(self._network(endpoint))
        held = net.ports
        resolved = held or ports.resolve(net.wanted_ports, self._ports_of_others(pod))
        self.registry.allocate(endpoint)
        net.active, net.ports = True, resolved
        self.registry.save(net, [*before, endpoint])
        try:
            await self._plug(endpoint, client)
            if resolved != held:
                await self._publish(pod, resolved, client)
        except BaseException:
            net.ports = held
            self.registry.save(net, before)
            with contextlib.suppress(HyperError):
                await self.mend(pod, client)
            raise
        await self._write_names()

    async def disconnect(self, pod: str, network: Network, client: SandboxClient | None) -> None:
        """Take a pod out of a network. Raises NotFound, Conflict (its ports are there)."""
        endpoints = self.registry.endpoints_of(pod)
        gone = next((e for e in endpoints if e.network == network.id), None)
        if gone is None:
            raise NotFound(f"{pod} is not in network {network.name}")
        net = self.registry.pods[pod]
        if client is not None and net.ports and self._published_at(pod) is gone:
            raise Conflict(
                f"{pod} has published ports in network {network.name}: delete them first"
            )
        if client is not None and gone.active:
            await client.unplug(gone.device)
        self.registry.save(net, [e for e in endpoints if e is not gone])
        await self._write_names()

    async def publish(
        self, pod: str, wanted: tuple[Port, ...], client: SandboxClient | None
    ) -> tuple[Port, ...]:
        """Publish further ports of a pod; returns them with their numbers. Raises Conflict."""
        net = self.registry.pods.get(pod) or PodNet(pod)
        known = {(p.protocol, p.container_port, p.host_port, p.host_ip) for p in net.wanted_ports}
        for port in wanted:
            if (
                port.host_port
                and (port.protocol, port.container_port, port.host_port, port.host_ip) in known
            ):
                raise Conflict(f"{pod}: {port} is published already")
        endpoints = self.registry.endpoints_of(pod)
        added = wanted
        if client is not None:
            taken = self._ports_of_others(pod) + [(pod, p) for p in net.ports]
            added = ports.resolve(wanted, taken)
            await client.publish([p.to_json() for p in added], self._target(pod))
            net.ports = (*net.ports, *added)
            net.active = True
        net.wanted_ports = (*net.wanted_ports, *wanted)
        self.registry.save(net, endpoints)
        await self._apply()
        return added

    async def unpublish(
        self, pod: str, unwanted: tuple[Port, ...], client: SandboxClient | None
    ) -> None:
        """Take published ports back. Raises NotFound for one that is not published."""
        net = self.registry.pods.get(pod) or PodNet(pod)
        for port in unwanted:
            if not any(_matches(port, p) for p in (*net.ports, *net.wanted_ports)):
                raise NotFound(f"{pod} has not published {port.container_port}/{port.protocol}")
        gone = [p for p in net.ports if any(_matches(u, p) for u in unwanted)]
        net.ports = tuple(p for p in net.ports if p not in gone)
        net.wanted_ports = tuple(
            p for p in net.wanted_ports if not any(_matches(u, p) for u in unwanted)
        )
        self.registry.save(net, self.registry.endpoints_of(pod))
        await self._apply()
        if client is not None and gone:
            await client.unpublish([p.to_json() for p in gone])

    async def serve(
        self, pod: str, services: tuple[Service, ...], client: SandboxClient | None
    ) -> None:
        """Replace the in-pod services of a pod. Raises VMError where the guest has none."""
        net = self.registry.pods.get(pod) or PodNet(pod)
        if client is not None:
            await client.set_services([s.to_guest() for s in services])
        net.services = services
        self.registry.save(net, self.registry.endpoints_of(pod))

    async def mend(self, pod: str, client: SandboxClient) -> None:
        """Bring the cards and ports of a pod that runs in line with what is stored of them.

        A hyperd that was killed, or a change that failed, may have left them apart. Raises
        HyperError.
        """
        net = self.registry.pods.get(pod) or PodNet(pod)
        endpoints = {e.device: e for e in self.registry.endpoints_of(pod) if e.active}
        state = await client.info()
        cards = {str(card["device"]) for card in state["cards"]}
        for device in sorted(cards - endpoints.keys()):
            log.warning("%s: card %s is of no network: taken away", pod, device)
            await client.unplug(device)
        for device in sorted(endpoints.keys() - cards):
            log.warning("%s: card %s is missing: plugged", pod, device)
            await self._plug(endpoints[device], client)
        taken = [Port(**port) for port in state["ports"]] if "ports" in state else list(net.ports)
        if unwanted := [port.to_json() for port in taken if port not in net.ports]:
            await client.unpublish(unwanted)
        if missing := [port.to_json() for port in net.ports if port not in taken]:
            await client.publish(missing, self._target(pod))

    def renamed(self, pod: str) -> None:
        """The names of a pod's containers have changed."""
        net = self.registry.pods.get(pod)
        if net is not None and net.active:
            self._write_names_now()


def _matches(unwanted: Port, port: Port) -> bool:
    """Whether a port is meant: protocol and container port, and what else was given."""
    return (
        (unwanted.protocol, unwanted.container_port) == (port.protocol, port.container_port)
        and unwanted.host_port in (0, port.host_port)
        and unwanted.host_ip in ("", port.host_ip)
    )


async def _all(work: list[Any]) -> None:
    """Wait for all; raise the first error once none is under way."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
