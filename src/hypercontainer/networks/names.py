"""The file of names that sandboxes answer from (see `sandbox.records`)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..system.files import write_atomic
from .registry import Registry

NamesOf = Callable[[str], Sequence[str]]


def write(path: Path, registry: Registry, names_of: NamesOf) -> None:
    """Write the names of all pods that run; `names_of` gives those of one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(str(path), json.dumps(collect(registry, names_of)).encode())


def collect(registry: Registry, names_of: NamesOf) -> dict[str, Any]:
    """What the file holds."""
    networks: dict[str, dict[str, Any]] = {}
    clients: dict[str, dict[str, Any]] = {}
    for network in registry.networks.values():
        names: dict[str, list[str]] = {}
        pointers: dict[str, str] = {}
        for endpoint in registry.endpoints_in(network, active=True):
            pod = registry.pods[endpoint.pod]
            own = list(names_of(endpoint.pod))
            for name in dict.fromkeys([*own, *endpoint.aliases]):
                for form in (name.lower(), f"{name}.{network.name}".lower()):
                    names.setdefault(form, []).extend(endpoint.addresses)
            first = own[0] if own else endpoint.pod
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
