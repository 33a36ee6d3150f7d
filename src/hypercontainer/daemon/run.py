"""hyperd's life: take the locks, open everything, serve, close."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from ..images import ImageStore
from ..networks import Networks, NetworkStore, Settings
from ..pods.layout import Layout
from ..pods.plans import Defaults
from ..pods.service import PodService
from ..pods.store import Store
from ..system import loops, merging
from ..system.lock import Lock
from .config import Config, check_boot_files
from .config_keys import DEFAULT_ROOT
from .context import Context
from .server import Listeners, application

log = logging.getLogger(__name__)


def run(
    config: Config,
    sockets: list[socket.socket],
    ready: Callable[[str], None],
    stopping: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once the socket answers.

    `stopping` is called when it begins to end; `sockets` are listening already.
    Containers go on when hyperd ends. Raises HyperError when it can't start.
    """
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    locks = [
        Lock(config.root, "root", "hyperd"),
        Lock(config.state_dir, "state", "hyperd"),
    ]
    try:
        loops.run(_serve(config, sockets, ready, stopping))
    finally:
        if config.state is None and config.root != DEFAULT_ROOT:
            _leave(config.state_dir)
        del locks


def _leave(state_dir: Path) -> None:
    """Remove the directory below /run of a Root of its own, unless VMs go on in it.

    Nobody else can take its lock meanwhile, as that of Root is held.
    """
    with contextlib.suppress(OSError):
        (state_dir / "sandboxes").rmdir()
        (state_dir / "names.json").unlink(missing_ok=True)
        (state_dir / "hyperd.lock").unlink()
        state_dir.rmdir()


async def _serve(
    config: Config,
    sockets: list[socket.socket],
    ready: Callable[[str], None],
    stopping: Callable[[], None],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, stop.set)
    layout = Layout(config.root, config.state_dir, config.log_prefix, config.pod_in_log_path)
    for directory in (layout.containers, layout.volumes, layout.sandboxes):
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    if config.cbfs and (warning := check_boot_files(config)):
        log.warning("%s", warning)
    if config.memory_merge != merging.OFF and (warning := merging.trouble()):
        log.warning("%s", warning)
    store = Store(layout.database)
    images = ImageStore(
        config.root / "images",
        mirrors=config.registry_mirrors,
        insecure=config.insecure_registries,
    )
    defaults = Defaults(
        kernel=config.kernel,
        initrd=config.initrd,
        bios=config.bios,
        cbfs=config.cbfs,
        accel=config.engine,
        template=config.template if config.factory.clones else "off",
        factory=config.factory,
        share_driver=config.share_driver,
        memory_merge=config.memory_merge,
        boot_timeout=config.boot_timeout,
        disk_size=config.storage_base_size,
        log=config.log,
    )
    network_store = NetworkStore(layout.database)
    networks = Networks(
        network_store,
        Settings(
            config.root,
            config.state_dir,
            config.bridge,
            config.bridge_subnets,
            config.bridge_mtu,
            not config.disable_rules,
        ),
    )
    pods = PodService(layout, store, images, defaults, networks)
    listeners = Listeners(application(Context(config, pods, images)))
    try:
        await pods.open()
        addresses = await listeners.start(config, sockets)
        ready(f"hyperd answers on {', '.join(addresses)}; root {config.root}")
        await stop.wait()
        stopping()
        log.info("stopping; containers go on")
    finally:
        await listeners.stop()
        await pods.close()
        network_store.close()
        store.close()
        images.close()
