"""Options as Docker reads them: values, and a parser whose errors are one line."""

from __future__ import annotations

import argparse
import os
import re

from ..errors import BadRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import NoReturn

    from .session import Session

    Configure = Callable[["Parser"], None]
    Run = Callable[[Session, argparse.Namespace], int]

_WIDTH = 96
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?([bkmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_UNITS = {"b": 0, "k": 10, "": 20, "m": 20, "g": 30, "t": 40}


class UsageError(BadRequest):
    """The command line is wrong."""

    code = "usage"


class Parser(argparse.ArgumentParser):
    """A parser that knows no abbreviations, and raises UsageError instead of exiting."""

    def __init__(self, prog: str, description: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            add_help=False,
            formatter_class=_Formatter,
        )
        self.below: dict[str, Parser] = {}
        self.default_below = ""
        self.add_argument("--help", action="help", help="show this text and exit")

    def completed(self, words: list[str]) -> list[str]:
        """With the command below that is meant where none is named."""
        named = not words or words[0].startswith("-") or words[0] in self.below
        return words if named or not self.default_below else [self.default_below, *words]

    def error(self, message: str) -> NoReturn:
        """Part of ArgumentParser."""
        message = message.replace("unrecognized arguments:", "unknown option or argument:")
        raise UsageError(f"{message}: see '{self.prog} --help'")

    def command(self, first: str, what: str = "the command and its arguments") -> argparse.Action:
        """A positional FIRST and whatever follows it: options after it are not ours."""
        return self.add_argument(
            "operands",
            nargs=argparse.PARSER,
            metavar=first,
            help=f"then {what}" if what else None,
        )


def subcommands(
    parser: Parser, table: Mapping[str, tuple[Configure, Run, str]], *, default: str = ""
) -> None:
    """The commands below a command: each with its options, its function and what it does.

    The function of the one that was given is `args.run`, which main calls. With `default` the
    name of one may be left out.
    """
    parser.default_below = default
    below = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (configure, run, summary) in table.items():
        command: Parser = below.add_parser(name, help=summary)
        command.description = summary[0].upper() + summary[1:] + "."
        configure(command)
        command.set_defaults(run=run)
        parser.below[name] = command


def add_filter(parser: Parser, about: str, *flags: str) -> None:
    """The option `--filter`, which `filters` reads; `about` says which keys there are."""
    parser.add_argument(
        *flags, "--filter", action="append", default=[], metavar="KEY=VALUE", help=about
    )


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=_WIDTH)


def split_command(operands: list[str]) -> tuple[str, list[str]]:
    """The first operand and the command after it; a leading `--` is dropped."""
    if operands[0] == "--" and len(operands) > 1:
        operands = operands[1:]
    return operands[0], operands[1:]


def memory_mib(text: str) -> int:
    """MiB of `512m`, `1g`, `1.5g`, `262144k`, `134217728b`; a plain number is in MiB.

    What is no multiple of 1 MiB is rounded up. Raises argparse.ArgumentTypeError.
    """
    match = _MEMORY.fullmatch(text.strip())
    size = float(match[1]) * (1 << _UNITS[match[2].lower()]) if match else 0.0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512m, 1g or 128 (MiB)")
    return int(-(-size // (1 << 20)))


def cpu_count(text: str) -> int:
    """A number of virtual CPUs. Raises argparse.ArgumentTypeError."""
    number = text.removesuffix(".0")
    if not (number.isascii() and number.isdigit() and int(number) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of virtual CPUs")
    return int(number)


def nano_cpus(text: str) -> int:
    """Billionths of a processor of `1.5`. Raises argparse.ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.01 <= number <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processors such as 0.5")
    return round(number * 10**9)


def seconds(text: str) -> int:
    """A whole number of seconds, 0 or more. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return int(text)


def positive(text: str) -> int:
    """A whole number above 0. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def detach_keys(text: str) -> str:
    """Keys as `parse_keys` takes them. Raises argparse.ArgumentTypeError."""
    from ..client.detach import parse_keys

    try:
        parse_keys(text)
    except BadRequest as error:
        raise argparse.ArgumentTypeError(error.message) from None
    return text


def environment(items: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """The variables of env files, then of `--env`, where the later wins.

    `NAME` alone takes the value of our own environment, if it has one. Raises UsageError.
    """
    result: dict[str, str] = {}
    for path in files:
        for number, line in enumerate(_lines(path), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                _set_variable(result, line.lstrip(), f"{path}, line {number}")
    for item in items:
        _set_variable(result, item, "--env")
    return result


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"cannot read the env file {path}: {(why or '').lower()}") from error


def _set_variable(result: dict[str, str], item: str, where: str) -> None:
    name, equals, value = item.partition("=")
    if not name or any(c.isspace() for c in name):
        raise UsageError(f"{where}: {item!r} is not NAME=VALUE or NAME")
    if equals:
        result[name] = value
    elif name in os.environ:
        result[name] = os.environ[name]


def labels(items: Iterable[str]) -> dict[str, str]:
    """Labels of `K=V`, or of `K` for an empty value. Raises UsageError."""
    result: dict[str, str] = {}
    for item in items:
        name, _, value = item.partition("=")
        if not name:
            raise UsageError(f"--label: {item!r} is not NAME=VALUE")
        result[name] = value
    return result


def filters(items: Iterable[str]) -> dict[str, list[str]]:
    """Values by key of `--filter KEY=VALUE`. Raises UsageError."""
    found: dict[str, list[str]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"--filter: {item!r} is not KEY=VALUE")
        found.setdefault(key.strip().lower(), []).append(value.strip())
    return found


def add_platform(parser: Parser) -> None:
    """The option `--platform`."""
    parser.add_argument(
        "--platform",
        default="",
        metavar="OS/ARCHITECTURE",
        help="which of the image's platforms: linux/amd64 (default), linux/arm64",
    )
