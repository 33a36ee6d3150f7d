"""Entry of `hyper`: global options, dispatch, and how errors become texts and exit codes."""

from __future__ import annotations

import argparse
import os
import sys

from .. import __version__
from ..errors import HyperError
from .arguments import Parser, UsageError
from .commands import ALIASES, COMMANDS, DAEMON_FAILURE
from .output import show, tell
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from ..client import TLS

BROKEN_PIPE = 128 + 13
INTERRUPTED = 128 + 2


def program() -> NoReturn:
    """`hyper` as a program: it ends without taking Python apart, which takes 10 ms."""
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = _quiet_broken_pipe()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hyper` and return its exit code."""
    program = os.path.basename(sys.argv[0])
    if program not in ("hyper", "hyperctl"):
        program = "hyper"
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_standard_files()
    try:
        return _run(program, arguments)
    except BrokenPipeError:
        return _quiet_broken_pipe()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as exit:  # argparse's --help
        return exit.code if isinstance(exit.code, int) else 0


class GlobalParser(Parser):
    """The parser of what stands before the command; its help lists the commands."""

    def format_help(self) -> str:
        """Part of ArgumentParser."""
        width = max(map(len, COMMANDS)) + 2
        lines = [f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items()]
        hint = f"`{self.prog} COMMAND --help` shows how a command is used."
        return super().format_help() + "\ncommands:\n" + "\n".join(lines) + f"\n\n{hint}\n"


def global_parser(program: str = "hyper") -> Parser:
    """The parser of what stands before the command."""
    parser = GlobalParser(
        program, "Run container images, each in a small virtual machine of its own."
    )
    parser.add_argument(
        "-H",
        "--host",
        metavar="ADDRESS",
        help="where hyperd listens: unix:///path or tcp://host:port"
        " (default: HYPER_HOST, else unix:///var/run/hyper.sock)",
    )
    _add_tls(parser)
    parser.add_argument("-D", "--debug", action="store_true", help="show details of errors")
    parser.add_argument("-v", "--version", action="store_true", help="show the version and exit")
    parser.add_argument("operands", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser


def _add_tls(parser: Parser) -> None:
    add = parser.add_argument
    add("--tls", action="store_true", help="speak TLS, with whoever answers")
    add("--tlsverify", action="store_true", help="speak TLS, and check whose certificate it is")
    for name, file, what in (
        ("cacert", "ca.pem", "the authority that signed hyperd's certificate"),
        ("cert", "cert.pem", "our certificate"),
        ("key", "key.pem", "the key of our certificate"),
    ):
        where = f"(default: {file} in HYPER_CERT_PATH, else in ~/.hyper)"
        add(f"--tls{name}", default="", metavar="FILE", help=f"{what} {where}")


def tls_of(options: argparse.Namespace) -> TLS | None:
    """What the options say of TLS; None when they are silent. Raises BadRequest."""
    files = {"ca": options.tlscacert, "cert": options.tlscert, "key": options.tlskey}
    if not (options.tls or options.tlsverify or any(files.values())):
        return None
    from ..client.tls import TLS, directory_of

    verify = options.tlsverify or not options.tls
    return TLS.of_directory(directory_of(os.environ), **files, verify=verify)


def _run(program: str, arguments: list[str]) -> int:
    debug = False
    failure = DAEMON_FAILURE
    try:
        options = global_parser(program).parse_args(arguments)
        debug = options.debug
        if options.version:
            show(f"{program} version {__version__}")
            return 0
        name, *rest = options.operands or ["help"]
        parser = command_parser(program, name)
        if parser is None:
            raise UsageError(_unknown(program, name))
        parsed = parser.parse_args(parser.completed(rest))
        name = ALIASES.get(name, name)
        failure = COMMANDS[name].failure
        session = Session(program, options.host, debug, tls_of(options))
        below = getattr(parsed, "run", None)
        run = below or getattr(COMMANDS[name].load(), f"command_{name}")
        code: int = run(session, parsed)
        sys.stdout.flush()
        return code
    except HyperError as error:
        report(program, error, debug)
        if isinstance(error, UsageError) or error.exit_code != DAEMON_FAILURE:
            return error.exit_code
        return failure
    except BrokenPipeError:
        raise
    except Exception as error:
        report(program, _unexpected(error), debug)
        return failure


def command_parser(program: str, name: str) -> Parser | None:
    """The parser of a command, None if there is no such command."""
    name = ALIASES.get(name, name)
    command = COMMANDS.get(name)
    if command is None:
        return None
    parser = Parser(f"{program} {name}", command.summary[0].upper() + command.summary[1:] + ".")
    getattr(command.load(), f"configure_{name}")(parser)
    return parser


def _unexpected(error: Exception) -> HyperError:
    """An error that no part of ours explains, as one line."""
    if isinstance(error, OSError) and error.strerror:
        about = f"{error.filename}: " if error.filename else ""
        wrapped = HyperError(f"{about}{error.strerror.lower()}")
    else:
        wrapped = HyperError(
            f"internal error: {type(error).__name__}: {error}: `--debug` shows where"
        )
    wrapped.__cause__ = error
    return wrapped


def _unknown(program: str, name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [*COMMANDS, *ALIASES], 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{name!r} is not a command{hint}: see '{program} --help'"


def report(program: str, error: HyperError, debug: bool) -> None:
    """Say on stderr what failed, in one line; with `debug` also the details and where."""
    message = " ".join(str(error.message).split("\n"))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _discard_output()
    tell(f"{program}: {message}")
    if debug:
        import traceback

        if error.detail:
            tell(error.detail.rstrip())
        traceback.print_exception(error)


def _open_standard_files() -> None:
    """A caller may have closed some: then /dev/null takes the place, and no socket does."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _quiet_broken_pipe() -> int:
    """The reader of our output has gone: no text, and none at Python's exit."""
    _discard_output()
    return BROKEN_PIPE


def _discard_output() -> None:
    """What can't be written is forgotten, so that Python does not try it again at its exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
