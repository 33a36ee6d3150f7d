"""runv's command line, as runc 1.1's."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import BadRequest
from .arguments import Arguments
from .main import fail
from .options import (
    COMMANDS,
    FLAG,
    NUMBER,
    NUMBERS,
    OPTIONAL,
    REST,
    SIZE,
    TEXTS,
    Option,
    Word,
    global_options,
)

_SUMMARY = "Open Container Initiative runtime: each container in a virtual machine of its own"
_NO_TOPIC = 3
_HELP = frozenset(("help", "--help", "-h"))


def program() -> str:
    """What we were called as: an engine may know us by the name of runc."""
    name = os.path.basename(sys.argv[0])
    return name if name in ("runv", "runc", "crun") else "runv"


class Parser(argparse.ArgumentParser):
    """Errors in one line with runc's status, help in the order of runc's."""

    def error(self, message: str) -> NoReturn:
        """Part of ArgumentParser."""
        raise SystemExit(fail(message, None, 1))

    def format_help(self) -> str:
        """Part of ArgumentParser."""
        return f"NAME:\n   {self.prog} - {self.description}\n\n{super().format_help()}"


def parser(argv: list[str] | None = None) -> Parser:
    """The parser of the whole command line, or of as much of it as `argv` needs."""
    name = program()
    wanted = None if argv is None or _HELP.intersection(argv) else frozenset(argv)
    top = Parser(prog=name, description=_SUMMARY, allow_abbrev=False)
    for option in global_options():
        _add_option(top, option)
    commands = _Commands(
        top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, prog=name),
        name,
        wanted,
    )
    for command, about in COMMANDS.items():
        added = commands.add(command, about.help)
        for option in about.options:
            _add_option(added, option)
        for word in about.words:
            _add_word(added, word)
    return top


class _Unused:
    """Stands for the parser of a command that nobody called."""

    def add_argument(self, *names: str, **options: Any) -> None:
        """As ArgumentParser's, but for the argument."""


class _Commands:
    """Adds commands with their help; of those that are not `wanted` nothing is made."""

    def __init__(
        self,
        subparsers: "argparse._SubParsersAction[Parser]",
        name: str,
        wanted: frozenset[str] | None,
    ) -> None:
        self._subparsers = subparsers
        self._name = name
        self._wanted = wanted

    def add(self, command: str, text: str) -> "Parser | _Unused":
        if self._wanted is not None and command not in self._wanted:
            return _Unused()
        return self._subparsers.add_parser(
            command, help=text, description=text, prog=f"{self._name} {command}", allow_abbrev=False
        )


def _add_option(parser: "Parser | _Unused", option: Option) -> None:
    settings: dict[str, Any] = {"default": option.default, "dest": option.name}
    settings["help"] = option.help or argparse.SUPPRESS
    if option.choices:
        settings["choices"] = option.choices
    if option.metavar:
        settings["metavar"] = option.metavar
    if option.kind in _TYPES:
        settings["type"] = _TYPES[option.kind]
    if option.kind == FLAG:
        settings["action"] = "store_true"
    elif option.kind in (TEXTS, NUMBERS):
        settings["action"] = "append"
    parser.add_argument(*option.flags, **settings)


def _add_word(parser: "Parser | _Unused", word: Word) -> None:
    settings: dict[str, Any] = {"default": word.default}
    if word.how_many == REST:
        settings = {"nargs": argparse.REMAINDER}
    elif word.how_many == OPTIONAL:
        settings["nargs"] = "?"
    parser.add_argument(word.name, **settings)


def size(text: str) -> int:
    """A number of bytes, with a unit of 1024 or none. Raises ArgumentTypeError."""
    number, unit = text.strip(), 1
    lower = number.lower().removesuffix("b").removesuffix("i")
    if lower and lower[-1] in "kmgtp":
        number, unit = lower[:-1], 1024 ** ("kmgtp".index(lower[-1]) + 1)
    try:
        return int(float(number) * unit) if "." in number else int(number) * unit
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid size {text!r}") from None


_TYPES: dict[str, Callable[[str], int]] = {NUMBER: int, NUMBERS: int, SIZE: size}


def show_help(top: Parser, topic: str | None) -> int:
    """Print the help of the program or of a command. Raises BadRequest for an unknown one."""
    if topic is None:
        top.print_help()
        return 0
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction) and topic in action.choices:
            action.choices[topic].print_help()
            return 0
    raise BadRequest(f"No help topic for {topic!r}")


def parse(argv: list[str]) -> Arguments | int:
    """What a command line means, or the status to exit with. Raises SystemExit, having said why."""
    top = parser(argv)
    if status := _unknown_command(top, argv):
        return status
    args, rest = top.parse_known_args(argv, namespace=Arguments())
    if rest and args.command not in ("checkpoint", "restore"):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def _unknown_command(top: Parser, argv: list[str]) -> int:
    """As runc: a first word that is no command is a help topic that does not exist."""
    known = {
        name
        for action in top._actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    }
    takes_value = {
        option
        for action in top._actions
        if action.nargs is None
        for option in action.option_strings
    }
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in takes_value
        elif word not in known:
            return fail(f"No help topic for {word!r}", None, _NO_TOPIC)
        else:
            break
    return 0
