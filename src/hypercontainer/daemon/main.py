"""The command `hyperd`."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..errors import BadRequest, HyperError, NotSupported
from ..system.notify import Notifier
from . import config as configuration
from .background import Background
from .config import Config
from .config_keys import by_name
from .supervisor import inherited_sockets

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def parser() -> argparse.ArgumentParser:
    """The flags; what they set wins over the configuration file."""
    flags = argparse.ArgumentParser(
        prog="hyperd",
        description="The daemon of HyperContainer: runs container images in VMs of their own.",
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("--config", type=Path, metavar="FILE", help=f"default {configuration.DEFAULT_FILE}")
    add("--root", metavar="DIR", help="images, containers, volumes, database")
    add("--state", metavar="DIR", help="sockets and states of running VMs")
    add("--socket", metavar="PATH", help="the unix socket of the API")
    add("--host", metavar="tcp://ADDR:PORT", help="another listener; loopback only; or fd://")
    add(
        "--insecure_host",
        action="store_true",
        help="let --host be an address that others reach: whoever does is root on this machine",
    )
    add("--tlscert", metavar="FILE", help="hyperd's certificate: --host is by TLS then")
    add("--tlskey", metavar="FILE", help="the key of the certificate")
    add("--tlscacert", metavar="FILE", help="who signs the certificates that clients must show")
    add("--tlsverify", action="store_true", help="don't start without --tlscacert")
    add("--registry_mirror", metavar="A,B", help="registries asked before the public one")
    add("--insecure_registry", metavar="A,B", help="registries spoken to without TLS")
    add("--memory_merge", metavar="HOW", help="off; sandboxes; all: whose equal pages are merged")
    add("--bridge", metavar="NAME", help="the bridge of the default network, or none")
    add("--nondaemon", action="store_true", help="stay in the foreground, log to stderr")
    add("--noniptables", action="store_true", help="leave the firewall alone")
    add("--debug", action="store_true", help="log more")
    add("--version", action="version", version=f"hyperd {__version__}")
    return flags


_FLAGS = {
    "root": "Root",
    "state": "StateDir",
    "socket": "Socket",
    "host": "Host",
    "tlscert": "TlsCert",
    "tlskey": "TlsKey",
    "tlscacert": "TlsCA",
    "registry_mirror": "Registry_mirror",
    "insecure_registry": "Insecure_registry",
    "memory_merge": "MemoryMerge",
    "bridge": "Bridge",
}


def configure(arguments: argparse.Namespace) -> Config:
    """The settings of file and flags. Raises BadRequest or NotSupported."""
    config = configuration.load(arguments.config)
    for flag, key in _FLAGS.items():
        value = getattr(arguments, flag)
        if value is not None:
            configuration.set_key(config, by_name(key), value, f"--{flag}")
    config.insecure_host = arguments.insecure_host
    config.disable_rules = config.disable_rules or arguments.noniptables
    config.debug = arguments.debug
    config.tls_verify = arguments.tlsverify
    configuration.check(config)
    from .tls import server_context

    server_context(config)
    return config


def main() -> NoReturn:
    """Run hyperd; ends the process."""
    arguments = parser().parse_args()
    notifier = Notifier()
    try:
        sockets = inherited_sockets()
        if os.geteuid() != 0:
            raise HyperError("hyperd needs to be root: it makes VMs' disks, mounts and sockets")
        config = configure(arguments)
        config.root.mkdir(parents=True, exist_ok=True, mode=0o711)
        background = None if arguments.nondaemon else Background.fork(config.root / "hyperd.log")
    except (HyperError, OSError) as error:
        print(f"hyperd: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, BadRequest | NotSupported) else 1)
    logging.basicConfig(
        level=logging.DEBUG if config.debug else logging.INFO,
        format=_LOG_FORMAT,
        stream=sys.stderr,
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # Late, as a wrong flag or key should not wait for it.
    from .run import run

    code = 0
    try:
        run(
            config,
            sockets,
            ready=lambda message: _ready(message, background, notifier),
            stopping=lambda: notifier.tell("STOPPING=1"),
        )
    except (HyperError, OSError) as error:
        code = 1
        if background:
            background.failed(str(error))
        logging.getLogger(__name__).error("%s", error)
    except BaseException:
        code = 1
        logging.getLogger(__name__).exception("hyperd failed")
        if background:
            background.failed("internal error")
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: asyncio kills, when it is collected, each child that it started itself.
    os._exit(code)


def _ready(message: str, background: Background | None, notifier: Notifier) -> None:
    """Tell those who read the log, the waiting command, and a service manager."""
    logging.getLogger(__name__).info("%s", message)
    if background is not None:
        background.ready(message)
    notifier.tell("READY=1", f"STATUS={message}")


if __name__ == "__main__":
    main()
