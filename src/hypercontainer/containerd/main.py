"""The command `runv-containerd`."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..errors import BadRequest, HyperError, NotSupported
from ..hypervisor.engines import CHOICES
from ..system.notify import Notifier

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_STATE = Path("/run/runv-containerd")
_SOCKET = "containerd.sock"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="runv-containerd",
        description="A daemon with containerd's API that runs each container in a VM of its own.",
        allow_abbrev=False,
    )
    add = flags.add_argument
    add(
        "--root",
        type=Path,
        metavar="DIR",
        default=Path("/var/lib/hyper"),
        help="hyperd's directory: content and snapshots go to its image store; the database",
    )
    add("--state-dir", type=Path, metavar="DIR", default=_STATE, help=f"tasks; default {_STATE}")
    add("-l", "--listen", metavar="SOCKET", help=f"default {_SOCKET} in the state directory")
    add("--debug", action="store_true", help="log more")
    add(
        "--driver",
        choices=CHOICES,
        default="auto",
        help="what runs the VMs' code",
    )
    add("--kernel", type=Path, metavar="FILE", help="the guest's kernel")
    add("--initrd", type=Path, metavar="FILE", help="the guest's initrd")
    add("--bios", type=Path, metavar="FILE", help="the VMs' firmware")
    add("--cbfs", type=Path, metavar="FILE", help="a flash to boot from, with kernel and initrd")
    add(
        "--template",
        choices=("auto", "use", "off"),
        default="auto",
        help="clone a booted VM (auto: make a template when there is none)",
    )
    add("--version", "-v", action="version", version=f"runv-containerd version {__version__}")
    return flags


def main() -> NoReturn:
    """Run the daemon; ends the process."""
    arguments = parser().parse_args()
    notifier = Notifier()
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format=_LOG_FORMAT,
        stream=sys.stderr,
    )
    for name in ("asyncio", "grpc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    log = logging.getLogger(__name__)

    def ready(message: str) -> None:
        log.info("%s", message)
        notifier.tell("READY=1", f"STATUS={message}")

    code = 0
    try:
        if os.geteuid() != 0:
            raise HyperError("runv-containerd needs to be root: it starts VMs and mounts")
        # Late, as a wrong flag should not wait for it.
        from .daemon.run import run, settings

        run(settings(arguments), ready, lambda: notifier.tell("STOPPING=1"))
    except (HyperError, OSError) as error:
        code = 2 if isinstance(error, BadRequest | NotSupported) else 1
        print(f"runv-containerd: {error}", file=sys.stderr)  # noqa: T201
    except BaseException:
        code = 1
        log.exception("runv-containerd failed")
    logging.shutdown()
    # Not sys.exit: asyncio kills, when it is collected, each child that it started itself.
    os._exit(code)


if __name__ == "__main__":
    main()
