"""`hyper run` and `hyper create`."""

from __future__ import annotations

import argparse
import time

from ..client import spec
from ..errors import HyperError, NotFound
from . import health, limit_options, mounts, network_options, podfiles
from .arguments import (
    UsageError,
    add_platform,
    environment,
    labels,
    memory_mib,
    seconds,
    split_command,
)
from .attached import (
    ALL_OUTPUT,
    Foreground,
    add_detach_keys,
    add_sig_proxy,
    caught_signals,
    check_terminal,
)
from .logs import add_log_options, log_of
from .output import show, tell
from .snapshots import wanted_of_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..client import Client
    from ..client.types import CreatedPod
    from .arguments import Parser
    from .session import Session
    from .signals import SignalPipe

_OF_PODS = {
    "memory": "memory",
    "vcpus": "cpu",
    "hostname": "hostname",
    "network": "network",
    "rm": "rm",
}
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


def configure_create(parser: Parser) -> argparse.Action:
    """Options of `create`, which `run` has too; returns the image and what follows it."""
    add = parser.add_argument
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-i", "--interactive", action="store_true", help="keep its stdin open, and pass ours on")
    add("--name", default="", metavar="NAME", help="name of the container (default: made up)")
    add("--rm", action="store_true", help="remove the container when it ends")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable")
    add("--env-file", action="append", default=[], metavar="FILE", help="set those of FILE")
    add("--entrypoint", metavar="PROGRAM", help='instead of the image\'s; "" for none')
    add("-w", "--workdir", default="", metavar="DIR", help="working directory")
    add("-u", "--user", default="", metavar="USER[:GROUP]", help="run as USER")
    add(
        "-m",
        "--memory",
        type=memory_mib,
        metavar="SIZE",
        help="memory of the VM: 512m, 1g; a plain number is in MiB (default: 128)",
    )
    add("--hostname", default="", metavar="NAME", help="host name (default: the container's name)")
    add("-l", "--label", action="append", default=[], metavar="NAME=VALUE", help="set a label")
    add("--read-only", action="store_true", help="make its root file system read-only")
    add(
        "--restart",
        default="",
        metavar="POLICY",
        help="when to start it again: no, on-failure[:N], always, unless-stopped (default: no)",
    )
    add("--stop-signal", default="", metavar="SIGNAL", help="signal that `hyper stop` sends")
    add(
        "--stop-timeout",
        type=seconds,
        metavar="SECONDS",
        help="how long `hyper stop` waits before SIGKILL (default: 10)",
    )
    add(
        "--pull",
        choices=("missing", "always", "never"),
        default="missing",
        help="when to pull the image (default: missing)",
    )
    add_platform(parser)
    add_log_options(parser)
    limit_options.add_options(parser)
    mounts.add_options(parser)
    network_options.add_options(parser)
    add(
        "-c",
        "--container",
        "--pod",
        dest="pod",
        default="",
        metavar="POD",
        help="create it in POD, which exists (create only)",
    )
    health.add_options(parser)
    operands = parser.command("IMAGE")
    podfiles.add_options(parser, operands)
    parser.set_defaults(default_of=parser.get_default)
    return operands


def configure_run(parser: Parser) -> None:
    """Options of `run`."""
    parser.add_argument(
        "-d", "--detach", action="store_true", help="print the container's id and do not wait"
    )
    parser.add_argument(
        "-a",
        "--attach",
        action="append",
        choices=tuple(_STREAMS),
        metavar="STREAM",
        help="attach only stdin, stdout or stderr",
    )
    add_sig_proxy(parser)
    add_detach_keys(parser)
    operands = configure_create(parser)

    class FromSnapshot(argparse.Action):
        def __call__(self, *given: Any) -> None:
            setattr(given[1], self.dest, given[2])
            operands.required = False

    parser.add_argument(
        "--from-snapshot",
        action=FromSnapshot,
        default="",
        metavar="NAME",
        help="go on from a snapshot instead of starting an image",
    )


def pod_spec(args: argparse.Namespace, image: str, command: list[str]) -> dict[str, Any]:
    """The pod that the options describe. Raises UsageError."""
    entrypoint = None if args.entrypoint is None else [args.entrypoint]
    return spec.pod(
        image,
        command,
        name=args.name,
        hostname=args.hostname,
        tty=args.tty,
        stdin=args.interactive,
        auto_remove=args.rm,
        env=environment(args.env, args.env_file),
        entrypoint=entrypoint,
        workdir=args.workdir,
        user=args.user,
        labels=labels(args.label),
        container_keys={**mounts.container_keys(args), **limit_options.container_keys(args)},
        pod_keys=network_options.pod_keys(args),
        read_only=args.read_only,
        stop_signal=args.stop_signal,
        stop_timeout=args.stop_timeout,
        memory_mib=args.memory,
        cpus=limit_options.vcpus(args),
        restart=args.restart,
        health=health.described(args),
        log=log_of(args),
        platform=args.platform,
    )


def command_create(session: Session, args: argparse.Namespace) -> int:
    """`hyper create`."""
    if podfiles.given(args):
        described = podfiles.described(args)
        if args.pod:
            show(f"Container ID is {session.client().create_container(args.pod, described)}")
        else:
            created = podfiles.create(session.client(), described, args.pull)
            show(f"Pod ID is {created['ID']}")
        return 0
    image, command = split_command(args.operands)
    described = pod_spec(args, image, command)
    if args.pod:
        show(_add(session.client(), args, described["containers"][0]))
        return 0
    created = create(session.client(), described, image, args.pull)
    show(created["Containers"][0])
    return 0


def _add(client: Client, args: argparse.Namespace, container: dict[str, Any]) -> str:
    """Create a container in a pod that exists; its id. Raises UsageError."""
    for name, option in _OF_PODS.items():
        if getattr(args, name) != args.default_of(name):
            raise UsageError(f"--{option}: the pod has it already, not one of its containers")
    try:
        return client.create_container(args.pod, container)
    except NotFound as error:
        if args.pull == "never" or "image" not in error.message:
            raise
    from .images import pull_image

    tell(f"Unable to find image '{container['image']}' locally")
    pull_image(client, container["image"], platform=args.platform)
    return client.create_container(args.pod, container)


def command_run(session: Session, args: argparse.Namespace) -> int:
    """`hyper run`."""
    if args.pod:
        raise UsageError("--container: `hyper create` has it, `hyper start` starts it then")
    if args.from_snapshot:
        return _run_snapshot(session, args)
    if podfiles.given(args):
        return _run_file(session, args)
    image, command = split_command(args.operands)
    if args.detach and args.attach:
        raise UsageError("--detach and --attach exclude each other: see 'hyper run --help'")
    described = pod_spec(args, image, command)
    if args.detach:
        client = session.client()
        created = create(client, described, image, args.pull)
        start(client, created, remove=args.rm)
        show(created["Containers"][0])
        return 0
    attached = {_STREAMS[name] for name in args.attach} if args.attach else {0, *ALL_OUTPUT}
    stdin = args.interactive and 0 in attached
    check_terminal(tty=args.tty, stdin=stdin)
    client = session.client()
    with caught_signals(tty=args.tty, proxy=args.sig_proxy == "true") as signals:
        created = create(client, described, image, args.pull, signals)
        container = created["Containers"][0]
        if signals.take():
            client.remove_pod(created["ID"], force=True)
            raise KeyboardInterrupt
        keys = args.detach_keys
        foreground = Foreground(
            client, container, None, tty=args.tty, stdin=stdin, detach_keys=keys
        )
        with client.attach(container, stdin=stdin, detach_keys=keys) as stream:
            return foreground.follow(
                stream,
                signals,
                begin=lambda: start(client, created, remove=args.rm),
                outputs=attached,
            )


def _run_snapshot(session: Session, args: argparse.Namespace) -> int:
    wanted = wanted_of_run(args)
    client = session.client()
    container = client.run_snapshot(args.from_snapshot, wanted)["Containers"][0]
    if args.detach:
        show(container)
        return 0
    attached = {_STREAMS[name] for name in args.attach} if args.attach else {0, *ALL_OUTPUT}
    config = client.inspect_container(container)["Config"]
    tty, stdin = bool(config["Tty"]), args.interactive and 0 in attached
    check_terminal(tty=tty and args.tty, stdin=stdin)
    with caught_signals(tty=tty, proxy=args.sig_proxy == "true") as signals:
        keys = args.detach_keys
        foreground = Foreground(client, container, None, tty=tty, stdin=stdin, detach_keys=keys)
        with client.attach(container, stdin=stdin, logs=True, detach_keys=keys) as stream:
            return foreground.follow(stream, signals, outputs=attached)


def _run_file(session: Session, args: argparse.Namespace) -> int:
    begun = time.monotonic()
    described = podfiles.described(args)
    client = session.client()
    created = podfiles.create(client, described, args.pull)
    if not args.attach:
        start(client, created, remove=args.rm)
        podfiles.report(created, begun)
        return 0
    container = created["Containers"][0]
    attached = {_STREAMS[name] for name in args.attach}
    tty, stdin = bool(client.inspect_container(container)["Config"]["Tty"]), 0 in attached
    with caught_signals(tty=tty, proxy=True) as signals:
        foreground = Foreground(client, container, None, tty=tty, stdin=stdin)
        with client.attach(container, stdin=stdin) as stream:
            return foreground.follow(
                stream,
                signals,
                begin=lambda: start(client, created, remove=args.rm),
                outputs=attached,
            )


def create(
    client: Client,
    described: dict[str, Any],
    image: str,
    pull: str,
    signals: SignalPipe | None = None,
) -> CreatedPod:
    """Create the pod, after pulling its image where that is wanted."""
    from .images import pull_image

    def fetch() -> None:
        pull_image(client, image, platform=described["containers"][0].get("platform", ""))

    if pull == "always":
        signals.uncaught(fetch) if signals else fetch()
    try:
        created = client.create_pod(described)
    except NotFound as error:
        if pull != "missing" or "image" not in error.message:
            raise
        tell(f"Unable to find image '{image}' locally")
        signals.uncaught(fetch) if signals else fetch()
        created = client.create_pod(described)
    return created


def start(client: Client, created: CreatedPod, *, remove: bool) -> None:
    """Start what was created; with `remove` nothing is left of it when that fails."""
    try:
        client.start_pod(created["ID"])
    except HyperError:
        if remove:
            try:
                client.remove_pod(created["ID"], force=True)
            except HyperError:
                pass  # hyperd has removed it, or can't: the first error says more
        raise
