"""Calls for networks and published ports."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .transport import Params, Transport

_PATIENCE = 180.0
"""Seconds: a card is plugged into a guest that may be emulated."""


class NetworkCalls:
    """The part of Client that is about networks."""

    _http: Transport

    def create_network(
        self,
        name: str,
        *,
        subnets: Sequence[Mapping[str, str]] = (),
        ipv6: bool = False,
        internal: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """Make a network; returns its id.

        `subnets` have Subnet, Gateway and IPRange. Raises BadRequest, and Conflict when the
        name is in use or a subnet overlaps another.
        """
        body = {
            "Name": name,
            "EnableIPv6": ipv6,
            "Internal": internal,
            "Labels": dict(labels or {}),
            "Options": dict(options or {}),
            "IPAM": {"Config": [dict(item) for item in subnets]},
        }
        answer = self._http.request("POST", "/network/create", body=body, timeout=_PATIENCE)
        return str(answer.json()["Id"])

    def list_networks(
        self, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[dict[str, Any]]:
        """The networks that match: name, id, driver, label, type, dangling."""
        params = {"filters": json.dumps(filters or {})}
        return [dict(item) for item in self._http.request("GET", "/networks", params).json()]

    def inspect_network(self, network: str) -> dict[str, Any]:
        """A network by name or id, in Docker's form. Raises NotFound."""
        params = {"network": network}
        return dict(self._http.request("GET", "/network/inspect", params).json())

    def remove_network(self, network: str) -> None:
        """Remove a network. Raises Conflict while containers are in it, NotFound."""
        params: Params = {"network": network}
        self._http.request("DELETE", "/network", params, timeout=_PATIENCE).read()

    def prune_networks(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[str]:
        """Remove the networks that no container is in; returns their names."""
        params = {"filters": json.dumps(filters or {})}
        answer = self._http.request("POST", "/networks/prune", params, timeout=_PATIENCE).json()
        return list(answer["NetworksDeleted"] or [])

    def connect_network(
        self,
        network: str,
        container: str,
        *,
        ip: str = "",
        ip6: str = "",
        aliases: Sequence[str] = (),
        mac: str = "",
    ) -> None:
        """Put a container's pod in a network, while it runs or not. Raises Conflict, NotFound."""
        endpoint = {
            "IPAMConfig": {"IPv4Address": ip, "IPv6Address": ip6},
            "Aliases": list(aliases),
            "MacAddress": mac,
        }
        body = {"Network": network, "Container": container, "EndpointConfig": endpoint}
        self._http.request("POST", "/network/connect", body=body, timeout=_PATIENCE).read()

    def disconnect_network(self, network: str, container: str) -> None:
        """Take a container's pod out of a network. Raises NotFound, Conflict."""
        body = {"Network": network, "Container": container}
        self._http.request("POST", "/network/disconnect", body=body, timeout=_PATIENCE).read()

    def list_ports(self, pod: str) -> list[dict[str, Any]]:
        """The published ports of a pod: containerPort, hostPort, protocol, hostIP."""
        answer = self._http.request("GET", f"/pod/{pod}/portmappings").json()
        return [dict(item) for item in answer["portMappings"]]

    def add_ports(self, pod: str, ports: Sequence[Mapping[str, Any]]) -> None:
        """Publish further ports, in the form of a pod's `portmappings`. Raises Conflict."""
        self._edit_ports(pod, "add", ports)

    def delete_ports(self, pod: str, ports: Sequence[Mapping[str, Any]]) -> None:
        """Take published ports back, by protocol and containerPort. Raises NotFound."""
        self._edit_ports(pod, "delete", ports)

    def _edit_ports(self, pod: str, action: str, ports: Sequence[Mapping[str, Any]]) -> None:
        path = f"/pod/{pod}/portmappings/{action}"
        body = [dict(port) for port in ports]
        self._http.request("PUT", path, body=body, timeout=_PATIENCE).read()

    def list_services(self, pod: str) -> list[dict[str, Any]]:
        """The in-pod services of a pod: serviceIP, servicePort, protocol, hosts."""
        answer = self._http.request("GET", "/service/list", {"podId": pod}).json()
        return [dict(item) for item in answer]

    def update_services(self, pod: str, services: Sequence[Mapping[str, Any]]) -> None:
        """Replace the in-pod services of a pod."""
        params: Params = {"podId": pod, "services": json.dumps([dict(s) for s in services])}
        self._http.request("POST", "/service/update", params, timeout=_PATIENCE).read()
