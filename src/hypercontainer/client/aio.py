"""The client for asyncio: the calls of Client, each in a thread of a bounded pool.

Every method is the one of Client or Container with the same parameters; nothing is written
twice. Cancelling a task ends its call's connections, waits until the call has cleared away,
and so leaves no container behind.
"""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, Unpack

from . import cancel
from .api import Client
from .container import Container

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from types import TracebackType

    from .options import Options
    from .tls import TLS

P = ParamSpec("P")
R = TypeVar("R")
_END = object()

MAX_CALLS = 32
"""How many calls of one AsyncClient run at once; others wait."""


class _Threads:
    """Runs calls in threads."""

    def __init__(self, most: int) -> None:
        self._executor = ThreadPoolExecutor(most, "hypercontainer")

    async def run(
        self, scope: cancel.Scope, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call in a thread; a cancellation ends what it does there."""
        context = copy_context()
        context.run(cancel.enter, scope)
        work: Future[R] = self._executor.submit(
            lambda: context.run(functools.partial(call, *args, **kwargs))
        )
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            if not work.cancelled():
                scope.cancel()
                await self._left_alone(work)
            raise

    async def _left_alone(self, work: Future[R]) -> None:
        """Wait for the end of a cancelled call; what it made all the same is removed."""
        ended = asyncio.wrap_future(work)
        await asyncio.wait([ended])
        if not ended.cancelled() and ended.exception() is None:
            result = ended.result()
            if isinstance(result, Container):
                await asyncio.wrap_future(self._executor.submit(result.discard))

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Async:
    """What has a synchronous twin whose methods run in threads."""

    _threads: _Threads
    _twin: Client | Container


def _call(
    method: Callable[Concatenate[_T, P], R],
) -> Callable[Concatenate[_Async, P], Awaitable[R]]:
    """A method of the twin as a coroutine function."""

    @functools.wraps(method)
    async def called(self: _Async, /, *args: P.args, **kwargs: P.kwargs) -> R:
        bound = functools.partial(method, self._twin)  # type: ignore[arg-type]
        return await self._threads.run(cancel.Scope(), bound, *args, **kwargs)

    return called


def _iterate(
    method: Callable[Concatenate[_T, P], Iterator[R]],
) -> Callable[Concatenate[_Async, P], AsyncIterator[R]]:
    """A method of the twin that yields, as an asynchronous generator function."""

    @functools.wraps(method)
    async def called(self: _Async, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        scope, run = cancel.Scope(), self._threads.run
        bound = functools.partial(method, self._twin)  # type: ignore[arg-type]
        items = iter(await run(scope, bound, *args, **kwargs))
        try:
            while (item := await run(scope, next, items, _END)) is not _END:
                yield item  # type: ignore[misc]
        finally:
            scope.cancel()

    return called


_T = TypeVar("_T")


class AsyncContainer(_Async):
    """Container for asyncio: `async with` removes it at the end of the block."""

    def __init__(self, threads: _Threads, twin: Container) -> None:
        self._threads = threads
        self._twin = twin
        self.id = twin.id

    async def __aenter__(self) -> AsyncContainer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        removal = asyncio.ensure_future(self.discard())
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await asyncio.wait([removal])
            raise

    discard = _call(Container.discard)
    start = _call(Container.start)
    stop = _call(Container.stop)
    kill = _call(Container.kill)
    remove = _call(Container.remove)
    wait = _call(Container.wait)
    inspect = _call(Container.inspect)
    stats = _call(Container.stats)
    logs = _call(Container.logs)
    run_to_end = _call(Container.run_to_end)
    exec = _call(Container.exec)
    put_files = _call(Container.put_files)
    get_files = _call(Container.get_files)


class AsyncClient(_Async):
    """Client for asyncio, with the same methods; those that yield are asynchronous iterators.

    At most `max_calls` run at once, each in a thread. The streams that are sockets (`attach`,
    `start_exec`) and the archives that are files (`get_archive`, `export`, `save`) are Client's
    only. Close it, or use `async with`.
    """

    def __init__(
        self, host: str | None = None, tls: TLS | None = None, *, max_calls: int = MAX_CALLS
    ) -> None:
        self._twin = Client(host, tls)
        self._threads = _Threads(max_calls)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the threads go; calls under way go on."""
        self._threads.close()

    async def container(self, reference: str) -> AsyncContainer:
        """A container that exists, as an object. Raises NotFound."""
        twin = self._twin
        assert isinstance(twin, Client)
        found = await self._threads.run(cancel.Scope(), twin.container, reference)
        return AsyncContainer(self._threads, found)

    async def create(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        stdin: bool = False,
        **options: Unpack[Options],
    ) -> AsyncContainer:
        """Create a container, as Client.create does; `async with await client.create(…)`."""
        twin = self._twin
        assert isinstance(twin, Client)
        create = functools.partial(twin.create, image, command, stdin=stdin, **options)
        return AsyncContainer(self._threads, await self._threads.run(cancel.Scope(), create))

    ping = _call(Client.ping)
    version = _call(Client.version)
    info = _call(Client.info)
    create_pod = _call(Client.create_pod)
    create_container = _call(Client.create_container)
    start_pod = _call(Client.start_pod)
    stop_pod = _call(Client.stop_pod)
    remove_pod = _call(Client.remove_pod)
    pod_info = _call(Client.pod_info)
    pause_pod = _call(Client.pause_pod)
    unpause_pod = _call(Client.unpause_pod)
    list_pods = _call(Client.list_pods)
    kill_pod = _call(Client.kill_pod)
    label_pod = _call(Client.label_pod)
    list_containers = _call(Client.list_containers)
    inspect_container = _call(Client.inspect_container)
    start_container = _call(Client.start_container)
    stop_container = _call(Client.stop_container)
    kill_container = _call(Client.kill_container)
    remove_container = _call(Client.remove_container)
    restart_container = _call(Client.restart_container)
    rename_container = _call(Client.rename_container)
    update_container = _call(Client.update_container)
    prune_containers = _call(Client.prune_containers)
    pause_container = _call(Client.pause_container)
    unpause_container = _call(Client.unpause_container)
    create_snapshot = _call(Client.create_snapshot)
    list_snapshots = _call(Client.list_snapshots)
    inspect_snapshot = _call(Client.inspect_snapshot)
    remove_snapshot = _call(Client.remove_snapshot)
    run_snapshot = _call(Client.run_snapshot)
    fork_container = _call(Client.fork_container)
    wait = _call(Client.wait)
    top = _call(Client.top)
    resize = _call(Client.resize)
    create_exec = _call(Client.create_exec)
    start_exec_detached = _call(Client.start_exec_detached)
    kill_exec = _call(Client.kill_exec)
    stat_path = _call(Client.stat_path)
    put_archive = _call(Client.put_archive)
    changes = _call(Client.changes)
    list_images = _call(Client.list_images)
    inspect_image = _call(Client.inspect_image)
    remove_image = _call(Client.remove_image)
    login = _call(Client.login)
    tag = _call(Client.tag)
    create_volume = _call(Client.create_volume)
    list_volumes = _call(Client.list_volumes)
    inspect_volume = _call(Client.inspect_volume)
    remove_volume = _call(Client.remove_volume)
    prune_volumes = _call(Client.prune_volumes)
    create_network = _call(Client.create_network)
    list_networks = _call(Client.list_networks)
    inspect_network = _call(Client.inspect_network)
    remove_network = _call(Client.remove_network)
    prune_networks = _call(Client.prune_networks)
    connect_network = _call(Client.connect_network)
    disconnect_network = _call(Client.disconnect_network)
    list_ports = _call(Client.list_ports)
    add_ports = _call(Client.add_ports)
    delete_ports = _call(Client.delete_ports)
    list_services = _call(Client.list_services)
    update_services = _call(Client.update_services)
    commit = _call(Client.commit)
    import_image = _call(Client.import_image)
    history = _call(Client.history)
    prune_images = _call(Client.prune_images)
    disk_usage = _call(Client.disk_usage)
    run = _call(Client.run)
    events = _iterate(Client.events)
    logs = _iterate(Client.logs)
    stats = _iterate(Client.stats)
    pull = _iterate(Client.pull)
    load = _iterate(Client.load)
    push = _iterate(Client.push)
    build = _iterate(Client.build)
