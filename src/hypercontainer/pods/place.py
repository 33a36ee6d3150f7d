"""What a pod has of networks, as its files, inspect and lists show it."""

from typing import Any

from ..networks import Endpoint, Network, Networks, Port
from .model import Pod
from .spec_network import HOST_GATEWAY

# What QEMU's user-mode network gives its guest.
USER_ADDRESS = "10.0.2.15"
USER_GATEWAY = "10.0.2.2"
USER_DNS = "10.0.2.3"


class Place:
    """What one pod has of networks now."""

    def __init__(self, networks: Networks, pod: str) -> None:
        self._registry = networks.registry
        self._pod = pod

    def endpoints(self) -> list[tuple[Endpoint, Network]]:
        """Its endpoints, with their networks, in the order of the cards."""
        return [
            (endpoint, self._registry.networks[endpoint.network])
            for endpoint in self._registry.endpoints_of(self._pod)
            if endpoint.network in self._registry.networks
        ]

    def active(self) -> list[tuple[Endpoint, Network]]:
        """Those that have addresses."""
        return [(e, n) for e, n in self.endpoints() if e.active]

    def ports(self) -> tuple[Port, ...]:
        """Its published ports, with their numbers while it runs."""
        net = self._registry.pods.get(self._pod)
        return () if net is None else net.ports if net.active else ()

    def wanted_ports(self) -> tuple[Port, ...]:
        """The ports that it publishes when it runs."""
        net = self._registry.pods.get(self._pod)
        return net.wanted_ports if net else ()


def hosts_lines(pod: Pod) -> list[tuple[str, str]]:
    """The pod's own lines of /etc/hosts: address and names."""
    short = pod.hostname.partition(".")[0]
    names = pod.hostname if short == pod.hostname else f"{pod.hostname} {short}"
    active = pod.place.active() if pod.place else []
    own = [address for endpoint, _ in active[:1] for address in endpoint.addresses]
    if not own:
        own = [USER_ADDRESS if pod.spec.network == "user" else "127.0.1.1"]
    lines = [(address, names) for address in own]
    for name, address in pod.spec.net.hosts:
        if address == HOST_GATEWAY:
            address = active[0][1].subnets[0].gateway if active else USER_GATEWAY
        lines.append((address, name))
    return lines


def name_servers(pod: Pod) -> list[str]:
    """The name servers of its resolv.conf: the networks' own, which ask `dns` for the rest."""
    active = pod.place.active() if pod.place else []
    if active:
        return [network.subnets[0].gateway for _, network in active[:3]]
    if pod.spec.dns:
        return list(pod.spec.dns)
    return [USER_DNS] if pod.spec.network == "user" else []


def settings(pod: Pod) -> dict[str, Any]:
    """Docker's NetworkSettings."""
    place = pod.place
    endpoints = place.endpoints() if place else []
    networks = {n.name: _endpoint_settings(e, n) for e, n in endpoints}
    first = next(iter(networks.values()), None) or _endpoint_settings(None, None)
    keys = (
        "IPAddress",
        "IPPrefixLen",
        "Gateway",
        "MacAddress",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPv6Gateway",
    )
    return {
        "Ports": _ports(place.ports() if place else ()),
        **{key: first[key] for key in keys},
        "Networks": networks,
    }


def _endpoint_settings(endpoint: Endpoint | None, network: Network | None) -> dict[str, Any]:
    active = endpoint is not None and endpoint.active
    v4, v6 = (network.subnet(version) if network and active else None for version in (4, 6))
    return {
        "NetworkID": network.id if network else "",
        "EndpointID": f"{endpoint.pod}/{endpoint.device}" if endpoint else "",
        "Aliases": list(endpoint.aliases) if endpoint else [],
        "IPAMConfig": _wanted(endpoint),
        "MacAddress": endpoint.mac if endpoint and active else "",
        "IPAddress": endpoint.ipv4 if endpoint and v4 else "",
        "IPPrefixLen": int(v4.subnet.partition("/")[2]) if v4 else 0,
        "Gateway": v4.gateway if v4 else "",
        "GlobalIPv6Address": endpoint.ipv6 if endpoint and v6 else "",
        "GlobalIPv6PrefixLen": int(v6.subnet.partition("/")[2]) if v6 else 0,
        "IPv6Gateway": v6.gateway if v6 else "",
    }


def _wanted(endpoint: Endpoint | None) -> dict[str, str] | None:
    if endpoint is None or not endpoint.wanted:
        return None
    return {"IPv6Address" if ":" in a else "IPv4Address": a for a in endpoint.wanted}


def _ports(ports: tuple[Port, ...]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        bindings = found.setdefault(f"{port.container_port}/{port.protocol}", [])
        for ip in [port.host_ip] if port.host_ip else ["0.0.0.0", "::"]:
            bindings.append({"HostIp": ip, "HostPort": str(port.host_port)})
    return found


def bindings(ports: tuple[Port, ...]) -> dict[str, list[dict[str, str]]]:
    """Docker's HostConfig.PortBindings."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        host = {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")}
        found.setdefault(f"{port.container_port}/{port.protocol}", []).append(host)
    return found


def port_list(pod: Pod) -> list[dict[str, Any]]:
    """The ports of Docker's list of containers."""
    found = []
    for port in pod.place.ports() if pod.place else ():
        for ip in [port.host_ip] if port.host_ip else ["0.0.0.0", "::"]:
            entry = {"IP": ip, "PrivatePort": port.container_port, "PublicPort": port.host_port}
            found.append({**entry, "Type": port.protocol})
    return found


def pod_addresses(pod: Pod) -> list[str]:
    """The original's podIP: addresses with lengths."""
    found = []
    for endpoint, network in pod.place.active() if pod.place else ():
        for subnet in network.subnets:
            address = endpoint.ipv6 if subnet.version == 6 else endpoint.ipv4
            found.append(f"{address}/{subnet.subnet.partition('/')[2]}")
    return found
