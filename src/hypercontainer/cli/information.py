"""`hyper info`, `hyper version`, `hyper help`."""

from __future__ import annotations

import sys

from .. import __version__
from .arguments import UsageError
from .output import add_format, print_json, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser
    from .session import Session


def configure_version(parser: Parser) -> None:
    """Options of `version`."""
    add_format(parser)


def command_version(session: Session, args: argparse.Namespace) -> int:
    """`hyper version`: ours, then hyperd's; 1 if hyperd does not answer."""
    from ..client.transport import API_VERSION, DaemonUnavailable
    from .main import report

    ours = {
        "version": __version__,
        "api_version": API_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    failure = None
    theirs: dict[str, Any] | None = None
    try:
        theirs = session.client(start=False).version()
    except DaemonUnavailable as error:
        failure = error
    if args.format == "json":
        print_json({"client": ours, "server": theirs})
    else:
        show("hyper:")
        _print_fields(ours)
        if theirs is not None:
            show("hyperd:")
            _print_fields(theirs)
    if failure is not None:
        report(session.program, failure, session.debug)
        return 1
    return 0


def _print_fields(fields: dict[str, Any], indent: str = " ") -> None:
    width = max((len(key) for key in fields), default=0) + 3
    for key, value in fields.items():
        if isinstance(value, dict):
            show(f"{indent}{_label(key)}:")
            _print_fields(value, indent + " ")
        elif isinstance(value, list):
            show(f"{indent}{_label(key)}:")
            for item in value:
                text = ": ".join(map(str, item)) if isinstance(item, list) else str(item)
                show(f"{indent}  {text}")
        else:
            show(f"{indent}{(_label(key) + ':').ljust(width)}{value}")


def _label(key: str) -> str:
    return key.replace("_", " ")


def configure_info(parser: Parser) -> None:
    """Options of `info`."""
    add_format(parser)


def command_info(session: Session, args: argparse.Namespace) -> int:
    """`hyper info`."""
    found = session.client().info()
    if args.format == "json":
        print_json(found)
    else:
        _print_fields(found, "")
    return 0


def configure_help(parser: Parser) -> None:
    """Options of `help`."""
    parser.add_argument("command", nargs="?", metavar="COMMAND")


def command_help(session: Session, args: argparse.Namespace) -> int:
    """`hyper help [COMMAND]`."""
    from .main import command_parser, global_parser

    if args.command is None:
        show(global_parser(session.program).format_help().rstrip())
        return 0
    parser = command_parser(session.program, args.command)
    if parser is None:
        raise UsageError(f"{args.command!r} is not a command: see '{session.program} --help'")
    show(parser.format_help().rstrip())
    return 0
