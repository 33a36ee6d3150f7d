"""Networks in Docker's form, and which of them are meant."""

from typing import Any

from ..errors import BadRequest
from ..networks import DEFAULT, Network
from .service import PodService

_FILTERS = ("name", "id", "driver", "label", "type", "dangling", "scope")


def view(service: PodService, network: Network) -> dict[str, Any]:
    """Docker's GET /networks/ID."""
    registry = service.networking.networks.registry
    containers: dict[str, dict[str, str]] = {}
    for endpoint in registry.endpoints_in(network, active=True):
        pod = service.pods.get(endpoint.pod)
        lengths = {s.version: s.subnet.partition("/")[2] for s in network.subnets}
        for container in pod.containers if pod else []:
            containers[container.id] = {
                "Name": container.name,
                "EndpointID": f"{endpoint.pod}/{endpoint.device}",
                "MacAddress": endpoint.mac,
                "IPv4Address": f"{endpoint.ipv4}/{lengths[4]}" if endpoint.ipv4 else "",
                "IPv6Address": f"{endpoint.ipv6}/{lengths[6]}" if endpoint.ipv6 else "",
            }
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created_at,
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": network.subnet(6) is not None,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [_config(s) for s in network.subnets],
        },
        "Internal": network.internal,
        "Attachable": False,
        "Ingress": False,
        "Bridge": network.bridge,
        "Mtu": network.mtu,
        "Pods": sorted(e.pod for e in registry.endpoints_in(network)),
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    }


def _config(subnet: Any) -> dict[str, str]:
    config = {"Subnet": subnet.subnet, "Gateway": subnet.gateway}
    return {**config, "IPRange": subnet.ip_range} if subnet.ip_range else config


def select(service: PodService, filters: dict[str, list[str]]) -> list[Network]:
    """The networks that match Docker's filters, by name. Raises BadRequest."""
    for key in filters:
        if key not in _FILTERS:
            raise BadRequest(f"filters: {key!r} is none of {', '.join(_FILTERS)}")
    registry = service.networking.networks.registry
    used = {n.id for n in registry.networks.values() if registry.endpoints_in(n)}
    return sorted(
        (n for n in registry.networks.values() if _matches(n, filters, n.id in used)),
        key=lambda n: n.name,
    )


def _matches(network: Network, filters: dict[str, list[str]], used: bool) -> bool:
    own = network.name == DEFAULT
    found = {
        "name": lambda value: value in network.name,
        "id": network.id.startswith,
        "driver": lambda value: value == "bridge",
        "scope": lambda value: value == "local",
        "type": lambda value: value == ("builtin" if own else "custom"),
        "dangling": lambda value: (value.lower() in ("true", "1")) == (not used and not own),
        "label": lambda value: _has_label(network.labels, value),
    }
    return all(
        all(map(found[key], values)) if key == "label" else any(map(found[key], values))
        for key, values in filters.items()
        if values
    )


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)
