"""The host's side of networks: bridges, rules and names, in line with what is stored."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from ..errors import Conflict, HyperError, NotFound, NotSupported
from ..system.tasks import Tasks
from . import conntrack, links, names
from .addresses import overlapping
from .firewall import Firewall
from .model import DEFAULT, Endpoint, Network, PodNet, Port, Subnet
from .registry import Registry, default_network
from .rights import lacking
from .rules import Target
from .store import NetworkStore

log = logging.getLogger(__name__)

_LOOK_EVERY = 20.0  # seconds
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


class HostSide:
    """Bridges, rules and the file of names, kept in line with what is stored."""

    def __init__(self, store: NetworkStore, settings: Settings) -> None:
        self.settings = settings
        self.names_of: names.NamesOf = lambda pod: (pod,)
        self._tasks = Tasks()
        self._watch: asyncio.Task[None] | None = None
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
        self._ruled = False

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

    async def _drop_bridge(self, name: str) -> None:
        """Remove a bridge if it is one that we made. Raises HyperError."""
        if name in await asyncio.to_thread(links.owned_bridges, self._owner):
            await asyncio.to_thread(links.delete_bridge, name)

    async def _check_default(self, network: Network) -> None:
        own = {n.bridge for n in self.registry.networks.values()}
        host = await asyncio.to_thread(links.host_subnets, own)
        for subnet in network.subnets:
            if other := overlapping(subnet.subnet, host):
                raise Conflict(
                    f"the network of {network.bridge}, {subnet.subnet}, overlaps {other}: set"
                    " BridgeIP to another in /etc/hyper/config"
                )

    def _network(self, endpoint: Endpoint) -> Network:
        try:
            return self.registry.networks[endpoint.network]
        except KeyError:
            raise NotFound(f"{endpoint.pod}: a network that it was in is gone") from None

    def _published_at(self, pod: str) -> Endpoint | None:
        """The endpoint that published ports lead to: the first that is reached from outside."""
        endpoints = [e for e in self.registry.endpoints_of(pod) if e.active]
        outer = [e for e in endpoints if not self._network(e).internal]
        return next(iter(outer or endpoints), None)

    def _deactivate(self, net: PodNet, endpoints: list[Endpoint]) -> None:
        net.active, net.ports = False, ()
        for endpoint in endpoints:
            endpoint.active = False

    async def _refresh(self, ports: tuple[Port, ...], endpoints: list[Endpoint]) -> None:
        """After a pod was forgotten that had these."""
        try:
            await self._write_names()
            await self._apply()
            await self._forget_flows(ports, endpoints)
        except HyperError as error:
            log.error("networks: %s", error.message)

    async def _forget_flows(self, ports: tuple[Port, ...], endpoints: list[Endpoint]) -> None:
        """Let clients of published UDP ports find another container."""
        addresses = [address for endpoint in endpoints for address in endpoint.addresses]
        if self.lacking or not addresses or not any(p.protocol == "udp" for p in ports):
            return
        try:
            await asyncio.to_thread(conntrack.forget_udp, addresses)
        except OSError as error:
            log.warning("flows of %s: %s", ", ".join(addresses), error)

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
        owned = await asyncio.to_thread(links.owned_bridges, self._owner)
        # The default one's may be left with the rules of pods that ended while hyperd was away.
        wanted = [
            n
            for n in self.registry.networks.values()
            if n.name != DEFAULT or n.bridge in owned or self.registry.endpoints_in(n, active=True)
        ]
        for network in wanted:
            try:
                async with self._lock:
                    await asyncio.to_thread(links.ensure_bridge, network, self._owner)
                self._made[network.id] = network.bridge
            except HyperError as error:
                log.error("network %s: %s", network.name, error.message)
        known = {n.bridge for n in self.registry.networks.values()}
        for bridge in owned:
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

    def watch(self) -> None:
        """Mend the rules when somebody else removes them, from now on."""
        if self._watch is None and not self.lacking and self.settings.rules:
            self._watch = asyncio.create_task(self._mend())

    async def _mend(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            try:
                if self._made and not await asyncio.to_thread(self._firewall.there):
                    log.warning("the firewall's rules are gone: made again")
                    self._firewall.forget()
                    await self._apply()
            except HyperError as error:
                log.error("networks: %s", error.message)

    async def close(self) -> None:
        """Stop watching; what there is stays."""
        for task in [*self._tasks, *([self._watch] if self._watch else [])]:
            task.cancel()

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
            if made:
                await asyncio.to_thread(self._firewall.apply, made, self._targets())
            elif self._ruled:
                await asyncio.to_thread(self._firewall.remove)
            self._ruled = bool(made)
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
