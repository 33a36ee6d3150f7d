"""What a command line of runv means: the plain ones, without argparse.

Engines call with plain ones, and importing and filling argparse would take longer than what
they call for. Any other, a wrong one among them, is left to `parser`, which has the words.
"""

from ..quick.types import TYPE_CHECKING, Any
from .options import (
    COMMANDS,
    FLAG,
    NUMBER,
    NUMBERS,
    OPTIONAL,
    REST,
    SIZE,
    TEXTS,
    Command,
    Option,
    global_options,
)


class Arguments:
    """The command, what it was given, and for the rest what is usual, by the names of `options`."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...


class _NotPlainError(Exception):
    """Something that argparse is to see."""


def parse_plain(argv: list[str]) -> Arguments | None:
    """What a plain command line means; None for any other."""
    try:
        values, rest = _options(global_options(), argv)
        if not rest or rest[0] not in COMMANDS or "--" in argv:
            return None
        command = COMMANDS[rest[0]]
        own, words = _options(command.options, rest[1:])
        return Arguments(**{**values, "command": rest[0], **own, **_words(command, words)})
    except _NotPlainError:
        return None


def _options(options: tuple[Option, ...], argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The options that `argv` begins with, and what follows."""
    known = {flag: option for option in options for flag in option.flags}
    values = {option.name: _default(option) for option in options}
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        flag, equals, value = argv[at].partition("=")
        at += 1
        option = known.get(flag)
        if option is None or (equals and (option.kind == FLAG or not flag.startswith("--"))):
            raise _NotPlainError
        if option.kind == FLAG:
            values[option.name] = True
            continue
        if not equals:
            value, at = _next(argv, at), at + 1
        read = _read(option, value)
        several = option.kind in (TEXTS, NUMBERS)
        values[option.name] = [*values[option.name], read] if several else read
    return values, argv[at:]


def _default(option: Option) -> Any:
    if option.kind == NUMBER and isinstance(option.default, str):
        return _read(option, option.default)
    return option.default


def _next(argv: list[str], at: int) -> str:
    if at >= len(argv) or argv[at].startswith("-"):
        raise _NotPlainError
    return argv[at]


def _read(option: Option, value: str) -> Any:
    if option.kind == SIZE or (option.choices and value not in option.choices):
        raise _NotPlainError
    if option.kind not in (NUMBER, NUMBERS):
        return value
    if not value.isascii() or not value.isdigit():
        raise _NotPlainError
    return int(value)


def _words(command: Command, given: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    rest = list(given)
    for word in command.words:
        if word.how_many == REST:
            values[word.name], rest = rest, []
        elif rest and not rest[0].startswith("-"):
            values[word.name] = rest.pop(0)
        elif word.how_many == OPTIONAL and not rest:
            values[word.name] = word.default
        else:
            raise _NotPlainError
    if rest:
        raise _NotPlainError
    return values
