"""The networks: made, found, removed; and the places of pods in them."""

import secrets
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from ..errors import BadRequest, Conflict, NotFound
from ..hypervisor.machine import random_mac
from .addresses import free_subnet, free_subnet6, make_subnet, overlapping, take
from .model import DEFAULT, RESERVED, Endpoint, Network, PodNet, Subnet, Wish
from .store import NetworkStore

BRIDGE_NAME = "com.docker.network.bridge.name"
MTU = "com.docker.network.driver.mtu"
_BRIDGE_PREFIX = "hyb-"


def default_network(bridge: str, subnets: tuple[Subnet, ...], mtu: int) -> Network:
    """The network of pods that name none, from the configuration."""
    network_id = sha256(DEFAULT.encode()).hexdigest()
    return Network(network_id, DEFAULT, bridge, subnets, mtu, options={BRIDGE_NAME: bridge})


class Registry:
    """Networks and endpoints in memory and in the database. Decides about addresses."""

    def __init__(self, store: NetworkStore, default: Network | None) -> None:
        self.store = store
        self.networks: dict[str, Network] = {}
        self.pods: dict[str, PodNet] = {}
        self._endpoints: dict[str, list[Endpoint]] = {}
        self._latest: dict[str, str] = {}
        networks, endpoints, pods = store.load()
        for network in [*([default] if default else []), *networks]:
            self.networks[network.id] = network
        for pod in pods:
            self.pods[pod.pod] = pod
        for endpoint in sorted(endpoints, key=lambda e: e.device):
            self._endpoints.setdefault(endpoint.pod, []).append(endpoint)

    # Networks

    def find(self, reference: str) -> Network:
        """A network by its name, id, or unique beginning of its id. Raises NotFound, BadRequest."""
        found = [n for n in self.networks.values() if n.name == reference]
        if not found and reference in self.networks:
            return self.networks[reference]
        if not found and reference:
            found = [n for n in self.networks.values() if n.id.startswith(reference)]
        if len(found) > 1:
            raise BadRequest(f"network {reference}: {len(found)} ids begin so: give more of the id")
        if not found:
            raise NotFound(f"no such network: {reference}: see `hyper network ls`")
        return found[0]

    def plan(self, name: str, request: dict[str, Any], host: list[tuple[str, str]]) -> Network:
        """A new network, checked and not stored.

        `request` has `subnets` ({subnet, gateway, ip_range}), `ipv6`, `internal`,
        `labels`, `options`; `host` are the subnets that the host has routes to.
        Raises BadRequest, Conflict.
        """
        if name in RESERVED:
            raise Conflict(f"network {name}: the name is hyperd's own: choose another")
        if any(n.name == name for n in self.networks.values()):
            raise Conflict(f"network with name {name} already exists: choose another")
        taken = host + [
            (s.subnet, f"network {n.name}") for n in self.networks.values() for s in n.subnets
        ]
        subnets = [make_subnet(**item) for item in request.get("subnets", [])]
        for version in (4, 6):
            if sum(s.version == version for s in subnets) > 1:
                raise BadRequest(f"network {name}: more than one subnet of IPv{version}")
        for subnet in subnets:
            if other := overlapping(subnet.subnet, taken):
                raise Conflict(f"subnet {subnet.subnet} overlaps {other}: choose another")
        if not any(s.version == 4 for s in subnets):
            subnets.insert(0, free_subnet(taken))
        if request.get("ipv6") and not any(s.version == 6 for s in subnets):
            subnets.append(free_subnet6(taken))
        network_id = secrets.token_hex(32)
        options = dict(request.get("options") or {})
        bridge = options.get(BRIDGE_NAME) or f"{_BRIDGE_PREFIX}{network_id[:11]}"
        if any(n.bridge == bridge for n in self.networks.values()):
            raise Conflict(f"bridge {bridge} is another network's: choose another name")
        return Network(
            id=network_id,
            name=name,
            bridge=bridge,
            subnets=tuple(subnets),
            mtu=int(options.get(MTU) or 1500),
            internal=bool(request.get("internal")),
            labels=dict(request.get("labels") or {}),
            options=options,
            created_at=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        )

    def add(self, network: Network) -> None:
        """Store a network."""
        self.store.save_network(network)
        self.networks[network.id] = network

    def check_removable(self, network: Network) -> None:
        """Raises Conflict for the default network, and one that pods are in."""
        if network.name == DEFAULT:
            raise Conflict(f"network {DEFAULT} is hyperd's own and can't be removed")
        pods = sorted(e.pod for e in self.endpoints_in(network))
        if pods:
            raise Conflict(
                f"network {network.name} is in use by {', '.join(pods[:5])}: disconnect or remove"
                " those first"
            )

    def drop(self, network: Network) -> None:
        """Forget a network."""
        self.store.remove_network(network.id)
        self.networks.pop(network.id, None)

    # Pods

    def endpoints_in(self, network: Network, *, active: bool = False) -> list[Endpoint]:
        """The endpoints of a network."""
        return [
            e
            for endpoints in self._endpoints.values()
            for e in endpoints
            if e.network == network.id and (e.active or not active)
        ]

    def endpoints_of(self, pod: str) -> list[Endpoint]:
        """The endpoints of a pod, in the order of its cards."""
        return list(self._endpoints.get(pod, []))

    def endpoint(self, pod: str, wish: Wish) -> Endpoint:
        """A new endpoint of a pod, not added. Raises NotFound, Conflict, BadRequest."""
        network = self.find(wish.network)
        if any(e.network == network.id for e in self.endpoints_of(pod)):
            raise Conflict(f"{pod} is in network {network.name} already")
        self._check_wish(network, wish)
        devices = {e.device for e in self.endpoints_of(pod)}
        device = next(name for n in range(64) if (name := f"eth{n}") not in devices)
        wanted = tuple(a for a in (wish.ipv4, wish.ipv6) if a)
        mac = wish.mac or random_mac()
        return Endpoint(network.id, pod, device, mac, wanted, wish.aliases)

    def _check_wish(self, network: Network, wish: Wish) -> None:
        for version, wanted in ((4, wish.ipv4), (6, wish.ipv6)):
            if not wanted:
                continue
            subnet = network.subnet(version)
            if subnet is None:
                raise BadRequest(f"ip: network {network.name} has no subnet of IPv{version}")
            take(subnet, set(), network.name, wanted=wanted)

    def save(self, pod: PodNet, endpoints: list[Endpoint]) -> None:
        """Store what a pod has."""
        self.store.save_pod(pod, endpoints)
        self.pods[pod.pod] = pod
        self._endpoints[pod.pod] = endpoints

    def forget(self, pod: str) -> None:
        """Forget a pod."""
        self.store.remove_pod(pod)
        self.pods.pop(pod, None)
        self._endpoints.pop(pod, None)

    def allocate(self, endpoint: Endpoint) -> None:
        """Give an endpoint its addresses and a MAC of its own. Raises Conflict, BadRequest."""
        network = self.networks.get(endpoint.network)
        if network is None:
            raise NotFound(f"{endpoint.pod}: a network that it was in is gone")
        others = [e for e in self.endpoints_in(network, active=True) if e is not endpoint]
        used = {address for e in others for address in e.addresses}
        chosen = {4: "", 6: ""}
        for subnet in network.subnets:
            version = subnet.version
            wanted = next((a for a in endpoint.wanted if (":" in a) == (version == 6)), "")
            last = endpoint.ipv6 if version == 6 else endpoint.ipv4
            after = self._latest.get(subnet.subnet, "")
            address = take(subnet, used, network.name, wanted=wanted, last=last, after=after)
            chosen[version] = address
            if address not in (wanted, last):
                self._latest[subnet.subnet] = address
        while any(e.mac == endpoint.mac for e in others):
            endpoint.mac = random_mac()
        endpoint.ipv4, endpoint.ipv6 = chosen[4], chosen[6]
        endpoint.active = True
