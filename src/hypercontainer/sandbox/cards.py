"""The network cards that a front door gives a VM, with all that belongs to them.

The front door makes a tap and passes its descriptor; the interface ends with
the VM. Names and published ports are served by this process, so that a
network needs nobody else once it is set up.
"""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, Conflict, HyperError, NotFound
from ..guest.protocol import Code

if TYPE_CHECKING:
    from .forward import Forwarder
    from .nameserver import NameServer
    from .vm import VirtualMachine

_MAX_CARDS = 8
_MAX_PORTS = 8192


class Cards:
    """The cards of one VM by their names in the guest, and its published ports."""

    def __init__(self, vm: "VirtualMachine") -> None:
        self._vm = vm
        self._cards: dict[str, dict[str, Any]] = {}
        self._servers: dict[str, list[NameServer]] = {}
        self._ports: dict[tuple[str, str, int], tuple[dict[str, Any], Forwarder | None]] = {}
        self._routed: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._count = 0

    def to_json(self) -> list[dict[str, Any]]:
        """The cards, as they were asked for."""
        return list(self._cards.values())

    def ports_to_json(self) -> list[dict[str, Any]]:
        """The published ports, as they were asked for."""
        return [port for port, _ in self._ports.values()]

    async def plug(self, card: dict[str, Any], tap: int) -> None:
        """Plug a card on a tap (a copy of its descriptor is kept), and set it up in the guest.

        `card`: `device` (its name in the guest), `mac`, `mtu`, `addresses`
        (CIDR), `gateways`, `resolvers` (addresses to answer names at), `bridge`, and
        `records`, the file of names. Raises BadRequest, Conflict, VMError.
        """
        name = str(card["device"])
        async with self._lock:
            if name in self._cards:
                raise Conflict(f"the virtual machine has a card {name} already")
            if len(self._cards) >= _MAX_CARDS:
                raise BadRequest(f"more than {_MAX_CARDS} network cards in a virtual machine")
            self._count += 1
            net = f"card{self._count}"
            await self._vm.monitor.plug_network(net, tap, str(card["mac"]))
            self._cards[name] = {**card, "net": net}
            try:
                await self._vm.request(
                    Code.SETUPINTERFACE,
                    {
                        "mac": card["mac"],
                        "name": name,
                        "mtu": card["mtu"],
                        "addresses": card["addresses"],
                        "up": True,
                    },
                )
                await self._route()
            except HyperError:
                await self._remove(name)
                raise
            await self._serve_names(name, card)

    async def _serve_names(self, name: str, card: dict[str, Any]) -> None:
        """A name server that can't be is no reason to keep the pod from starting."""
        from .nameserver import NameServer
        from .records import Records

        records = Records(str(card["records"]))
        for address in card["resolvers"]:
            server = NameServer(records, str(card["bridge"]), str(address))
            try:
                await server.start()
            except OSError as error:
                sys.stderr.write(f"name server at {address}: {error.strerror}\n")
                continue
            self._servers.setdefault(name, []).append(server)

    async def _route(self) -> None:
        """Default routes by the first card that has a gateway, for each version of IP."""
        wanted: dict[str, tuple[str, str]] = {}
        for name, card in self._cards.items():
            for gateway in card["gateways"]:
                wanted.setdefault("6" if ":" in gateway else "4", (gateway, name))
        routes = [
            {"dest": "default", "gateway": gateway, "device": name}
            for version, (gateway, name) in wanted.items()
            if self._routed.get(version) != f"{gateway} {name}"
        ]
        if routes:
            await self._vm.request(Code.SETUPROUTE, {"routes": routes})
        self._routed = {version: " ".join(route) for version, route in wanted.items()}

    async def unplug(self, name: str) -> None:
        """Take a card away. Raises NotFound, VMError."""
        async with self._lock:
            if name not in self._cards:
                raise NotFound(f"the virtual machine has no card {name}")
            await self._remove(name)
            await self._route()

    async def _remove(self, name: str) -> None:
        card = self._cards.pop(name)
        for server in self._servers.pop(name, []):
            server.close()
        await self._vm.request(Code.DELETEINTERFACE, {"mac": card["mac"]})
        await self._vm.monitor.unplug_network(str(card["net"]))

    async def publish(self, ports: list[dict[str, Any]], target: str) -> None:
        """Take ports of the host, and pass on to the container's address what comes there.

        All or none. Raises Conflict when another program has one.
        """
        from .forward import Forwarder

        if len(self._ports) + len(ports) > _MAX_PORTS:
            raise BadRequest(f"more than {_MAX_PORTS} published ports of a pod")
        taken: list[tuple[str, str, int]] = []
        try:
            for port in ports:
                key = _key(port)
                if key in self._ports:
                    raise Conflict(f"port {key[2]}/{key[0]} is published already")
                if self._vm.machine.network == "user":
                    await self._vm.monitor.forward_port(*key, int(port["container_port"]))
                    self._ports[key] = (port, None)
                else:
                    forwarder = Forwarder(port, target)
                    forwarder.open()
                    self._ports[key] = (port, forwarder)
                taken.append(key)
        except BaseException:
            for key in taken:
                await self._unpublish(key)
            raise

    async def unpublish(self, ports: list[dict[str, Any]]) -> None:
        """Let ports of the host go; those that are not published are fine."""
        for port in ports:
            if _key(port) in self._ports:
                await self._unpublish(_key(port))

    async def _unpublish(self, key: tuple[str, str, int]) -> None:
        _, forwarder = self._ports.pop(key)
        if forwarder is not None:
            await forwarder.close()
        else:
            await self._vm.monitor.unforward_port(*key)

    async def close(self) -> None:
        """The VM is gone: let ports and name servers go."""
        for servers in self._servers.values():
            for server in servers:
                server.close()
        self._servers.clear()
        for _, forwarder in self._ports.values():
            if forwarder is not None:
                await forwarder.close()
        self._ports.clear()


def _key(port: dict[str, Any]) -> tuple[str, str, int]:
    return str(port["protocol"]), str(port["host_ip"]), int(port["host_port"])
