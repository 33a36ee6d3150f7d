"""The VM's network cards, kept like the interfaces of an engine's network namespace."""

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from ..errors import HyperError
from ..guest.protocol import Code
from ..system.threads import in_network_namespace
from . import netns, resolver
from .netns import Interface, Route
from .resolver import Relay

if TYPE_CHECKING:
    from .vm import VirtualMachine

# An engine makes its changes in a burst; they are followed once it is over.
_SETTLE = 0.05
_MAX_CARDS = 16
_MAX_FAILURES = 4
# The guest's end of the link to the relay of name servers.
_RELAY_PREFIX = 30
_RELAY_CLIENT = "169.254.77.2/30"


class NetworkMirror:
    """Follows one namespace: a card for each interface, its addresses, MTU and routes."""

    def __init__(self, vm: "VirtualMachine", namespace: int) -> None:
        """`namespace` is a descriptor of the network namespace; a copy is kept."""
        self._vm = vm
        self._namespace = os.dup(namespace)
        self._cards: dict[int, Interface] = {}
        self._routes: list[Route] = []
        self._routes_are_stale = False
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._relay: Relay | None = None
        self._relay_card = 0

    async def start(self) -> None:
        """Take what there is now, and follow changes from now on. Raises HyperError."""
        self._socket = await asyncio.to_thread(
            in_network_namespace, self._namespace, netns.change_socket
        )
        asyncio.get_running_loop().add_reader(self._socket, self._drain)
        await self.sync()
        self._task = asyncio.create_task(self._follow())

    def _drain(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(65536):
                pass
        except BlockingIOError:
            pass
        except OSError:
            # ENOBUFS: events were lost, which the next look makes good.
            pass
        self._changed.set()

    async def _follow(self) -> None:
        failures = 0
        while True:
            await self._changed.wait()
            await asyncio.sleep(_SETTLE)
            self._changed.clear()
            try:
                await self.sync()
                failures = 0
            except HyperError as error:
                sys.stderr.write(f"network: {error.message}\n")
                failures += 1
                if failures < _MAX_FAILURES:
                    await asyncio.sleep(failures)
                    self._changed.set()

    async def sync(self) -> None:
        """Make the VM's network what the namespace's is. Raises HyperError."""
        async with self._lock:
            found = await asyncio.to_thread(in_network_namespace, self._namespace, netns.interfaces)
            present = {interface.number for interface in found}
            for index in [i for i in self._cards if i not in present]:
                await self._remove(index)
            for interface in found[:_MAX_CARDS]:
                await self._adapt(interface)
            await self._adapt_relay()
            await self._adapt_routes()

    async def resolve_by(self, server: str) -> None:
        """Let the guest ask a name server that only the namespace reaches. Raises HyperError."""
        async with self._lock:
            if self._relay is None:
                relay = Relay(self._namespace)
                try:
                    await relay.start()
                except OSError as error:
                    raise HyperError(f"name server {server}: {error.strerror}") from error
                self._relay = relay
            self._relay.server = server
            await self._adapt_relay()

    async def _adapt_relay(self) -> None:
        """Keep the relay at one of the cards."""
        if self._relay is None or self._relay_card in self._cards or not self._cards:
            return
        # Tried once a card: each try changes the namespace, which would lead to the next one.
        number = self._relay_card = min(self._cards)
        await asyncio.to_thread(
            in_network_namespace,
            self._namespace,
            lambda: netns.answer_at(number, resolver.ADDRESS, _RELAY_PREFIX),
        )
        own = {"mac": self._cards[number].mac, "addresses": [_RELAY_CLIENT], "up": True}
        await self._vm.request(Code.SETUPINTERFACE, own)

    async def _adapt(self, wanted: Interface) -> None:
        known = self._cards.get(wanted.number)
        if known == wanted:
            return
        if known is None or known.mac != wanted.mac:
            if known is not None:
                await self._remove(wanted.number)
            fd = await asyncio.to_thread(
                in_network_namespace, self._namespace, lambda: netns.join(wanted)
            )
            try:
                await self._vm.monitor.plug_network(f"net{wanted.number}", fd, wanted.mac)
            finally:
                os.close(fd)
            known = None
        elif known.mtu != wanted.mtu:
            await asyncio.to_thread(
                in_network_namespace, self._namespace, lambda: netns.resize(wanted)
            )
        await self._vm.request(Code.SETUPINTERFACE, _setup(wanted, known))
        self._cards[wanted.number] = wanted
        self._routes_are_stale = True

    async def _remove(self, index: int) -> None:
        gone = self._cards.pop(index)
        if index == self._relay_card:
            self._relay_card = 0
        await self._vm.request(Code.DELETEINTERFACE, {"mac": gone.mac, "device": gone.name})
        await self._vm.monitor.unplug_network(f"net{index}")

    async def _adapt_routes(self) -> None:
        routes = await asyncio.to_thread(in_network_namespace, self._namespace, netns.routes)
        gone = [r._replace(dest=f"-{r.dest}") for r in self._routes if r not in routes]
        if routes == self._routes and not self._routes_are_stale:
            return
        payload = [
            {"dest": r.dest, "device": r.device, **({"gateway": r.gateway} if r.gateway else {})}
            for r in (*gone, *routes)
        ]
        await self._vm.request(Code.SETUPROUTE, {"routes": payload})
        self._routes = routes
        self._routes_are_stale = False

    async def stop(self) -> None:
        """Take the redirects away and let the namespace go."""
        if self._task is not None:
            self._task.cancel()
        if self._relay is not None:
            self._relay.close()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        names = [interface.name for interface in self._cards.values()]
        try:
            await asyncio.to_thread(
                in_network_namespace, self._namespace, lambda: netns.unjoin(*names)
            )
        except OSError:
            pass
        os.close(self._namespace)


def _setup(wanted: Interface, known: Interface | None) -> dict[str, Any]:
    """The SETUPINTERFACE payload that turns `known` (None: a new card) into `wanted`."""
    payload: dict[str, Any] = {"mac": wanted.mac, "up": wanted.up}
    if known is None or known.name != wanted.name:
        payload["name"] = wanted.name
    if known is None or known.mtu != wanted.mtu:
        payload["mtu"] = wanted.mtu
    # What stays is told again: it went if it was secondary to one taken away, or with a new name.
    old = known.addresses if known else ()
    gone = [f"-{a}" for a in old if a not in wanted.addresses]
    payload["addresses"] = [*gone, *wanted.addresses]
    former = known.neighbours if known else ()
    forgotten = [f"-{n.split()[0]}" for n in former if n not in wanted.neighbours]
    payload["neighbours"] = [*forgotten, *wanted.neighbours]
    return payload
