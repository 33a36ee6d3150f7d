"""runv-containerd's life: take the locks, open everything, serve, close."""

import argparse
import asyncio
import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from ...errors import BadRequest, HyperError
from ...images.contentfiles import ContentFiles
from ...images.snapshotfiles import SnapshotFiles
from ...system import loops
from ...system.database import Database
from ...system.lock import Lock
from .bundles import Bundles
from .collector import Collector
from .containers import Containers
from .content import Content
from .contentstore import ContentStore
from .core import Core
from .diff import Diff
from .events import Events
from .exchange import Exchange
from .forwarding import Forwarding
from .health import Health
from .images import Images
from .introspection import Introspection
from .leases import Leases
from .namespaces import Namespaces
from .schema import open_database
from .server import Service, make_server
from .shims import Launcher
from .snapshots import Snapshots
from .snapshotstore import SnapshotStore
from .tasks import TasksService
from .taskstore import TaskStore
from .version import Version

log = logging.getLogger(__name__)

_GRACE = 5.0
_SOCKET_PATH_LIMIT = 100  # that of its companion for shims is longer by 6


@dataclass(frozen=True)
class Settings:
    """What the flags say."""

    root: Path
    state_dir: Path
    listen: Path
    options: dict[str, str]
    """Options of the shims."""
    debug: bool


def settings(arguments: argparse.Namespace) -> Settings:
    """The settings of flags. Raises BadRequest."""
    options = {"driver": arguments.driver, "template": arguments.template}
    for name in ("kernel", "initrd", "bios", "cbfs"):
        path = getattr(arguments, name)
        if path is not None:
            if not path.is_file():
                raise BadRequest(f"--{name}: {path} is no file")
            options[name] = str(path.absolute())
    state_dir = arguments.state_dir.absolute()
    listen = (arguments.listen or str(state_dir / "containerd.sock")).removeprefix("unix://")
    if len(os.fsencode(os.path.abspath(listen))) > _SOCKET_PATH_LIMIT:
        raise BadRequest(f"--listen: {listen} is longer than {_SOCKET_PATH_LIMIT} bytes")
    return Settings(
        arguments.root.absolute(),
        state_dir,
        Path(os.path.abspath(listen)),
        options,
        arguments.debug,
    )


def run(settings: Settings, ready: Callable[[str], None], stopping: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; tasks go on afterwards. Raises HyperError."""
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for directory in (settings.root, settings.state_dir, settings.listen.parent):
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    locks = [
        Lock(settings.root, "root", "runv-containerd"),
        Lock(settings.state_dir, "state-dir", "runv-containerd"),
    ]
    loops.run(_serve(settings, ready, stopping))
    del locks


async def _serve(
    settings: Settings, ready: Callable[[str], None], stopping: Callable[[], None]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, stop.set)
    listen = settings.listen
    # Removed first: whoever connects to what a killed daemon left would wait for us.
    listen.unlink(missing_ok=True)
    async with AsyncExitStack() as stack:
        database = open_database(settings.root / "containerd.db")
        stack.callback(database.close)
        core = _core(settings.root / "images", database)
        stack.callback(core.collector.close)
        _remove_leftovers(core)
        launcher = Launcher(listen, settings.debug)
        tasks = TaskStore(Bundles(settings.state_dir), launcher, core.events)
        stack.push_async_callback(tasks.close)
        forwarding = Forwarding(launcher.events_socket, tasks.heard)
        stack.push_async_callback(asyncio.to_thread, forwarding.close)
        await tasks.recover()
        server = make_server(_services(core, tasks, settings.options))
        await _listen(server, listen)
        stack.callback(listen.unlink, True)
        stack.push_async_callback(server.stop, _GRACE)
        ready(f"runv-containerd answers on {listen}; root {settings.root}")
        core.collector.soon()
        await stop.wait()
        stopping()
        log.info("stopping; tasks go on")


async def _listen(server: grpc.aio.Server, path: Path) -> None:
    """Begin to serve at a socket that only root can connect to. Raises HyperError."""
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError:
        raise HyperError(f"listen on {path}: see that its directory can be written to") from None
    finally:
        os.umask(mask)
    await server.start()


def _core(images: Path, database: Database) -> Core:
    exchange = Exchange(database)
    content = ContentStore(database, exchange, ContentFiles(images))
    snapshots = SnapshotStore(database, exchange, SnapshotFiles(images))
    collector = Collector(database, content, snapshots)
    return Core(database, exchange, content, snapshots, collector)


def _services(core: Core, tasks: TaskStore, options: dict[str, str]) -> list[Service]:
    containers = Containers(core, tasks.has)
    services: list[Service] = [
        Version(),
        Namespaces(core),
        containers,
        TasksService(core, containers, tasks, options),
        Images(core),
        Content(core),
        Leases(core),
        Snapshots(core),
        Diff(core),
        Events(core.events),
    ]
    services.append(Introspection(core.database, services))
    services.append(Health(services))
    return services


def _remove_leftovers(core: Core) -> None:
    """Remove files of which the database does not know. Blocks."""
    database = core.database
    digests = {digest for (digest,) in database.rows("SELECT digest FROM content")}
    ingests = {name for (name,) in database.rows("SELECT file FROM ingests")}
    core.content.files.remove_others(digests, ingests)
    numbers = {number for (number,) in database.rows("SELECT number FROM snapshots")}
    core.snapshots.files.remove_others(numbers)
