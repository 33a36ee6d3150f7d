"""What hyperd does with networks: the host's side of it kept in line with what is stored."""

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Conflict, HyperError, NotFound, NotSupported
from ..sandbox import SandboxClient
from . import links, names, ports
from .firewall import Firewall
from .model import DEFAULT, Endpoint, Network, PodNet, Port, Service, Subnet, Wish
from .registry import Registry, default_network
from .rights import lacking
from .rules import Target
from .store import NetworkStore

log = logging.getLogger(__name__)

_OWNER = "hyperd"
MODES = ("none", "user")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says: `bridge` "none" means no default network; `mtu` in bytes."""

    root: Path
    state: Path
    bridge: str = "hyper0"
    subnets: tuple[Subnet, ...] = (Subnet("192.168.123.0/24", "192.168.123.1"),)
    mtu: int = 1500
    rules: bool = True


class Networks:
    """Networks, what pods have of them, and the bridges, rules and names that come of it."""

    def __init__(self, store: NetworkStore, settings: Settings) -> None:
        self.settings = settings
        self.names_of: names.NamesOf = lambda pod: (pod,)
        self._tasks: set[asyncio.Task[None]] = set()
        default = None
        if settings.bridge != "none":
            default = default_network(settings.bridge, settings.subnets, settings.mtu)
        self.registry = Registry(store, default)
        self.lacking = lacking(rules=settings.rules)
        table = "hyper" if settings.bridge in ("hyper0", "none") else f"hyper_{settings.bridge}"
        self._firewall = Firewall(
            "".join(c if c.isalnum() else "_" for c in table), enabled=settings.rules
        )
        self._owner = f"{_OWNER}:{settings.root}"[:255]
        self._names = settings.state / "names.json"
        self._made: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._wanted = self._applied = 0

    @property
    def default_mode(self) -> str:
        """The network of a pod that names none: `bridge`, else `user`, or as configured `none`."""
        if self.settings.bridge == "none":
            return "none"
        return "user" if self.lacking else DEFAULT

    def require(self) -> None:
        """Raises NotSupported where bridges can't be made."""
        if self.lacking:
            raise NotSupported(
                f"no networks of bridges here: {self.lacking}: use --network user or none"
            )

    # Networks

    async def create(self, name: str, request: dict[str, Any]) -> Network:
        """Make a network with its bridge. Raises BadRequest, Conflict, NotSupported."""
        self.require()
        async with self._lock:
            own = {n.bridge for n in self.registry.networks.values()}
            host = await asyncio.to_thread(links.host_subnets, own)
            network = self.registry.plan(name, request, host)
            await asyncio.to_thread(links.ensure_bridge, network, self._owner)
            try:
                self.registry.add(network)
            except BaseException:
                await asyncio.to_thread(links.delete_bridge, network.bridge)
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
                owned = await asyncio.to_thread(links.owned_bridges, self._owner)
                if network.bridge in owned:
                    await asyncio.to_thread(links.delete_bridge, network.bridge)
        await self._apply()

    async def _ensure(self, network: Network) -> None:
        """Make the bridge of a network unless it is there."""
        if self._made.get(network.id) and links.exists(network.bridge):
            return
        self.require()
        async with self._lock:
            if network.name == DEFAULT:
                await self._check_default(network)
            await asyncio.to_thread(links.ensure_bridge, network, self._owner)
            self._made[network.id] = network.bridge
        await self._apply()

    async def _check_default(self, network: Network) -> None:
        from .addresses import overlapping

        own = {n.bridge for n in self.registry.networks.values()}
        host = await asyncio.to_thread(links.host_subnets, own)
        for subnet in network.subnets:
            if other := overlapping(subnet.subnet, host):
                raise Conflict(
                    f"the network of {network.bridge}, {subnet.subnet}, overlaps {other}: set"
                    " BridgeIP to another in /etc/hyper/config"
                )

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
        net = self.registry.pods.get(pod)
        if net is None:
            return
        self.registry.forget(pod)
        if net.active:
            task = asyncio.create_task(self._refresh())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _refresh(self) -> None:
        try:
            await self._write_names()
            await self._apply()
        except HyperError as error:
            log.error("networks: %s", error.message)

    async def claim(self, pod: str) -> None:
        """Give a pod that is to start its addresses and ports; the bridges are there then.

        Raises Conflict (a port or an address is taken), NotSupported.
        """
        net = self.registry.pods.get(pod)
        if net is None:
            return
        endpoints = self.registry.endpoints_of(pod)
        for endpoint in endpoints:
            await self._ensure(self._network(endpoint))
        if net.wanted_ports:
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

    def _network(self, endpoint: Endpoint) -> Network:
        try:
            return self.registry.networks[endpoint.network]
        except KeyError:
            raise NotFound(f"{endpoint.pod}: a network that it was in is gone") from None

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

    def _published_at(self, pod: str) -> Endpoint | None:
        """The endpoint that published ports lead to: the first that is reached from outside."""
        endpoints = [e for e in self.registry.endpoints_of(pod) if e.active]
        outer = [e for e in endpoints if not self._network(e).internal]
        return next(iter(outer or endpoints), None)

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
        had_ports, endpoints = bool(net.ports), self.registry.endpoints_of(pod)
        self._deactivate(net, endpoints)
        try:
            self.registry.save(net, endpoints)
            if endpoints:
                await self._write_names()
            if had_ports:
                await self._apply()
        except (HyperError, OSError) as error:
            log.error("networks of %s: %s", pod, error)

    def _deactivate(self, net: PodNet, endpoints: list[Endpoint]) -> None:
        net.active, net.ports = False, ()
        for endpoint in endpoints:
            endpoint.active = False

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
        self.registry.allocate(endpoint)
        net.active = True
        self.registry.save(net, [*before, endpoint])
        try:
            await self._plug(endpoint, client)
        except BaseException:
            self.registry.save(net, before)
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

    def renamed(self, pod: str) -> None:
        """The names of a pod's containers have changed."""
        net = self.registry.pods.get(pod)
        if net is not None and net.active:
            self._write_names_now()

    # Keeping the host in line

    async def reconcile(self, known: set[str], live: set[str]) -> None:
        """Bring addresses, bridges, rules and names in line with the pods, and those that live."""
        for pod in list(self.registry.pods.values()):
            if pod.pod not in known:
                self.registry.forget(pod.pod)
            elif pod.pod not in live and pod.active:
                endpoints = self.registry.endpoints_of(pod.pod)
                self._deactivate(pod, endpoints)
                self.registry.save(pod, endpoints)
        if self.lacking:
            if self.settings.bridge != "none":
                log.warning("pods have QEMU's user-mode network: %s", self.lacking)
            return
        wanted = [
            n
            for n in self.registry.networks.values()
            if n.name != DEFAULT or self.registry.endpoints_in(n, active=True)
        ]
        for network in wanted:
            try:
                async with self._lock:
                    await asyncio.to_thread(links.ensure_bridge, network, self._owner)
                self._made[network.id] = network.bridge
            except HyperError as error:
                log.error("network %s: %s", network.name, error.message)
        known = {n.bridge for n in self.registry.networks.values()}
        for bridge in await asyncio.to_thread(links.owned_bridges, self._owner):
            if bridge not in known:
                log.warning("clearing the bridge of no network: %s", bridge)
                await asyncio.to_thread(links.delete_bridge, bridge)
        self._firewall.forget()
        try:
            if self._made or self.registry.networks:
                await self._apply()
            await self._write_names()
        except (HyperError, OSError) as error:
            log.error("networks: %s", error)

    async def _apply(self) -> None:
        """Apply the rules; several who want it at a time share one application."""
        if self.lacking:
            return
        self._wanted += 1
        mine = self._wanted
        async with self._lock:
            if self._applied >= mine:
                return
            now = self._wanted
            made = [n for n in self.registry.networks.values() if n.id in self._made]
            if made or self._applied:
                await asyncio.to_thread(self._firewall.apply, made, self._targets())
            self._applied = now

    def _targets(self) -> list[Target]:
        found: list[Target] = []
        for net in self.registry.pods.values():
            if not net.active or not net.ports:
                continue
            endpoint = self._published_at(net.pod)
            if endpoint is not None:
                found += [(port, endpoint.ipv4, endpoint.ipv6) for port in net.ports]
        return found

    async def _write_names(self) -> None:
        self._write_names_now()

    def _write_names_now(self) -> None:
        try:
            names.write(self._names, self.registry, self.names_of)
        except OSError as error:
            raise HyperError(f"write {self._names}: {error.strerror}") from error


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
