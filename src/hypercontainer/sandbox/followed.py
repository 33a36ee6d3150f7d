"""The network namespace that a VM follows, and the resolv.conf of its containers."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..errors import Conflict, HyperError, Timeout
from ..guest.fields import read_list
from .containers import Container
from .network import NetworkMirror
from .resolver import ResolverFile
from .vm import VirtualMachine

if TYPE_CHECKING:
    from .loopback import LoopbackRelay
    from .sandbox import Sandbox

_RESOLV_CONF = "/etc/resolv.conf"
_BEGIN_BOUND = 60.0


class FollowedNetwork:
    """At most one namespace. `spawn` runs a task of the sandbox."""

    def __init__(self, state_dir: str, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._state_dir = state_dir
        self._spawn = spawn
        self._mirror: NetworkMirror | None = None
        self._loopback: LoopbackRelay | None = None
        self._begun = asyncio.Event()
        self._followed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def follows(self) -> bool:
        """Whether there is one."""
        return self._mirror is not None

    async def follow(
        self, vm: VirtualMachine, namespace: int, ready: "asyncio.Future[None]"
    ) -> None:
        """Give the VM what a namespace (a descriptor) has, now and when it changes.

        Raises Conflict when it follows one already.
        """
        if self._mirror is not None:
            raise Conflict("the virtual machine has a network already")
        self._mirror = NetworkMirror(vm, namespace)
        self._begun.set()
        try:
            await asyncio.shield(ready)
            await self._mirror.start()
        except BaseException as error:
            self._followed.set_exception(error)
            self._followed.exception()
            raise
        self._followed.set_result(None)

    async def begun(self) -> None:
        """Wait until one is known, though not yet followed. Raises Timeout."""
        try:
            await asyncio.wait_for(self._begun.wait(), _BEGIN_BOUND)
        except TimeoutError:
            raise Timeout(f"no network to follow came within {_BEGIN_BOUND:.0f} s") from None

    async def followed(self) -> None:
        """Wait until the VM has what the namespace has. Raises what kept `follow` from it."""
        await asyncio.shield(self._followed)

    async def serve_loopback(self, sandbox: "Sandbox", namespace: int) -> None:
        """Pass on to the guest who connects to the namespace's loopback; a host on which
        that can't be is told of in the log."""
        from .loopback import LoopbackRelay

        relay = LoopbackRelay(sandbox, namespace)
        try:
            await relay.start()
            self._loopback = relay
        except (HyperError, OSError) as error:
            sys.stderr.write(f"connections to the pod's loopback: {error}\n")

    async def stop(self) -> None:
        """Take back what was done to the namespace."""
        if self._loopback is not None:
            await self._loopback.stop()
            self._loopback = None
        if self._mirror is not None:
            await self._mirror.stop()
            self._mirror = None

    async def with_resolver(self, container: Container, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with a resolv.conf that holds in the guest, if there is a network."""
        mounts = read_list(config, "mounts")
        bound = [m for m in mounts if isinstance(m, dict) and m.get("destination") == _RESOLV_CONF]
        if self._mirror is None or not bound:
            return config
        copy = os.path.join(self._state_dir, f"{container.cid}.resolv.conf")
        try:
            container.resolver = ResolverFile(
                str(bound[-1].get("source")), copy, lambda s: self._spawn(self._relay_to(s))
            )
        except OSError:
            # Binding it tells what is wrong with it.
            return config
        if container.resolver.server:
            await self._relay_to(container.resolver.server)
        return {
            **config,
            "mounts": [{**m, "source": copy} if m is bound[-1] else m for m in mounts],
        }

    async def _relay_to(self, server: str) -> None:
        assert self._mirror is not None
        try:
            await self._mirror.resolve_by(server)
        except HyperError as error:
            sys.stderr.write(f"{error.message}\n")
