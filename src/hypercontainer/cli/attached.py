"""Commands that attach: `start`, `exec`, `attach`; and the part that `run` shares with them."""

from __future__ import annotations

import os
import signal
import sys

from ..errors import HyperError, NotRunning
from .arguments import UsageError, detach_keys, environment, split_command
from .output import tell
from .signals import FATAL, FORWARDED, SignalPipe
from .stream import Relay
from .terminal import RawMode, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection

    from ..client import Client
    from ..client.streams import RawStream
    from .arguments import Parser
    from .session import Session

ALL_OUTPUT = (1, 2)
_KILLED = 128 + signal.SIGKILL


def check_terminal(*, tty: bool, stdin: bool) -> None:
    """Raises UsageError when a terminal is asked for and stdin is none."""
    if tty and stdin and not os.isatty(0):
        raise UsageError("the input device is not a terminal: leave out --tty, or --interactive")


def caught_signals(*, tty: bool, proxy: bool) -> SignalPipe:
    """What is to be caught: without a terminal all that the container gets instead of us."""
    if tty:
        return SignalPipe((signal.SIGWINCH, *FATAL))
    return SignalPipe(FORWARDED if proxy else ())


class Foreground:
    """A process whose streams are ours: a container's first, or one of `exec`."""

    def __init__(
        self,
        client: Client,
        container: str,
        exec_id: str | None,
        *,
        tty: bool,
        stdin: bool,
        detach_keys: str = "",
    ) -> None:
        self._client = client
        self._container = container
        self._exec = exec_id
        self._tty = tty
        self._stdin = stdin
        self._detach_keys = detach_keys

    def follow(
        self,
        stream: RawStream,
        signals: SignalPipe,
        *,
        begin: Callable[[], None] | None = None,
        outputs: Collection[int] = ALL_OUTPUT,
    ) -> int:
        """Call `begin`, which starts the process, and carry its streams to its end.

        Returns its exit code, 0 after a detach.
        """
        sys.stdout.flush()
        relay = Relay(
            stream,
            tty=self._tty,
            stdin=0 if self._stdin else None,
            signals=signals,
            on_signal=self._on_signal,
            outputs=outputs,
            detach_keys=self._detach_keys,
        )
        with RawMode(0 if self._tty and self._stdin else -1):
            if begin:
                begin()
            if self._tty:
                self._resize()
            detached = relay.run()
        if detached:
            tell("read escape sequence")
            return 0
        code = self._client.wait(self._container, self._exec)
        if code == _KILLED and self._exec is None:
            self._say_who_killed()
        return code

    def _say_who_killed(self) -> None:
        """137 alone does not tell a lost VM or a lack of memory from a signal that was sent."""
        try:
            details = self._client.inspect_container(self._container)
        except HyperError:
            return  # removed already
        reason = str(details["State"].get("Reason") or "")
        if reason and not reason.startswith("signal "):
            tell(f"hyper: container {details['Name'].removeprefix('/')} ended: {reason}")

    def _on_signal(self, signum: int) -> None:
        if signum == signal.SIGWINCH:
            self._resize()
        elif self._tty:
            raise SystemExit(128 + signum)
        else:
            try:
                self._client.kill_container(self._container, signum)
            except HyperError:
                pass  # it has just ended

    def _resize(self) -> None:
        wanted = size(1) or size(0)
        if wanted:
            try:
                self._client.resize(self._container, *wanted, exec_id=self._exec)
            except HyperError:
                pass  # it has just ended


def add_detach_keys(parser: Parser) -> None:
    """The option `--detach-keys`."""
    parser.add_argument(
        "--detach-keys",
        type=detach_keys,
        default="",
        metavar="KEYS",
        help="keys that detach from a terminal (default: ctrl-p,ctrl-q)",
    )


def add_sig_proxy(parser: Parser) -> None:
    """The option `--sig-proxy`."""
    parser.add_argument(
        "--sig-proxy",
        choices=("true", "false"),
        default="true",
        help="pass our signals on to a container without a terminal (default: true)",
    )


def configure_exec(parser: Parser) -> None:
    """Options of `exec`."""
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait for its end")
    parser.add_argument("-i", "--interactive", action="store_true", help="pass our stdin on")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument(
        "-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable"
    )
    parser.add_argument(
        "--env-file", action="append", default=[], metavar="FILE", help="set the variables of FILE"
    )
    parser.add_argument("-w", "--workdir", default="", metavar="DIR", help="working directory")
    parser.add_argument("-u", "--user", default="", metavar="USER[:GROUP]", help="run as USER")
    parser.add_argument(
        "-m",
        "--vm",
        action="store_true",
        help="in its virtual machine, outside all containers: busybox's programs, the VM at /vm",
    )
    add_detach_keys(parser)
    parser.command("CONTAINER")


def command_exec(session: Session, args: argparse.Namespace) -> int:
    """`hyper exec`."""
    container, command = split_command(args.operands)
    if not command:
        raise UsageError("which command? see 'hyper exec --help'")
    stdin = args.interactive and not args.detach
    check_terminal(tty=args.tty, stdin=stdin)
    variables = environment(args.env, args.env_file)
    client = session.client()
    exec_id = client.create_exec(
        container,
        command,
        tty=args.tty,
        stdin=stdin,
        detach=args.detach,
        env=[f"{name}={value}" for name, value in variables.items()],
        user=args.user,
        workdir=args.workdir,
        vm=args.vm,
    )
    if args.detach:
        client.start_exec_detached(container, exec_id)
        return 0
    keys = args.detach_keys
    foreground = Foreground(client, container, exec_id, tty=args.tty, stdin=stdin, detach_keys=keys)
    with (
        caught_signals(tty=args.tty, proxy=False) as signals,
        client.start_exec(container, exec_id, detach_keys=keys) as stream,
    ):
        return foreground.follow(stream, signals)


def configure_attach(parser: Parser) -> None:
    """Options of `attach`."""
    parser.add_argument("--no-stdin", action="store_true", help="do not pass our stdin on")
    parser.add_argument("--logs", action="store_true", help="what was written before, first")
    add_sig_proxy(parser)
    add_detach_keys(parser)
    parser.add_argument("container", metavar="CONTAINER")


def command_attach(session: Session, args: argparse.Namespace) -> int:
    """`hyper attach`."""
    client = session.client()
    details = client.inspect_container(args.container)
    if not details["State"].get("Running"):
        raise NotRunning(
            f"container {args.container} is not running: `hyper start -a` starts and attaches"
        )
    config = details["Config"]
    tty, stdin = bool(config.get("Tty")), bool(config.get("OpenStdin")) and not args.no_stdin
    check_terminal(tty=tty, stdin=stdin)
    keys = args.detach_keys
    foreground = Foreground(client, args.container, None, tty=tty, stdin=stdin, detach_keys=keys)
    with (
        caught_signals(tty=tty, proxy=args.sig_proxy == "true") as signals,
        client.attach(args.container, stdin=stdin, logs=args.logs, detach_keys=keys) as stream,
    ):
        return foreground.follow(stream, signals)


def configure_start(parser: Parser) -> None:
    """Options of `start`."""
    parser.add_argument(
        "-a", "--attach", action="store_true", help="show its output, and exit as it does"
    )
    parser.add_argument("-i", "--interactive", action="store_true", help="pass our stdin on")
    add_sig_proxy(parser)
    add_detach_keys(parser)
    parser.add_argument("containers", nargs="+", metavar="CONTAINER")


def command_start(session: Session, args: argparse.Namespace) -> int:
    """`hyper start`."""
    if not args.attach and not args.interactive:
        from .containers import for_each

        client = session.client()
        return for_each(session, args.containers, lambda name: client.start_container(name))
    if len(args.containers) > 1:
        raise UsageError("only one container can be attached to at once")
    return _start_attached(session, args, args.containers[0])


def _start_attached(session: Session, args: argparse.Namespace, container: str) -> int:
    client = session.client()
    details = client.inspect_container(container)
    config = details["Config"]
    tty, stdin = bool(config.get("Tty")), args.interactive and bool(config.get("OpenStdin"))
    check_terminal(tty=tty, stdin=stdin)
    keys = args.detach_keys
    foreground = Foreground(client, details["Id"], None, tty=tty, stdin=stdin, detach_keys=keys)
    with (
        caught_signals(tty=tty, proxy=args.sig_proxy == "true") as signals,
        client.attach(details["Id"], stdin=stdin, detach_keys=keys) as stream,
    ):
        running = details["State"].get("Running")
        begin = None if running else lambda: client.start_container(details["Id"])
        return foreground.follow(stream, signals, begin=begin)
