"""The file of names that sandboxes answer from (see `sandbox.records`)."""

import json
from pathlib import Path
from typing import Any

from ..system.files import write_atomic
from .registry import Registry


def write(path: Path, registry: Registry) -> None:
    """Write the names of all pods that run. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(str(path), json.dumps(collect(registry)).encode())


def collect(registry: Registry) -> dict[str, Any]:
    """What the file holds."""
    networks: dict[str, dict[str, Any]] = {}
    clients: dict[str, dict[str, Any]] = {}
    for network in registry.networks.values():
        names: dict[str, list[str]] = {}
        pointers: dict[str, str] = {}
        for endpoint in registry.endpoints_in(network, active=True):
            pod = registry.pods[endpoint.pod]
            own = [*pod.names, *endpoint.aliases]
            for name in dict.fromkeys(own):
                for form in (name.lower(), f"{name}.{network.name}".lower()):
                    names.setdefault(form, []).extend(endpoint.addresses)
            first = pod.names[0] if pod.names else endpoint.pod
            places = [e for e in registry.endpoints_of(endpoint.pod) if e.active]
            for address in endpoint.addresses:
                pointers[address] = f"{first}.{network.name}"
                clients[f"{network.bridge} {address}"] = {
                    "networks": [e.network for e in places],
                    "dns": list(pod.dns),
                }
        networks[network.id] = {
            "names": names,
            "pointers": pointers,
            "internal": network.internal,
        }
    return {"networks": networks, "clients": clients}
