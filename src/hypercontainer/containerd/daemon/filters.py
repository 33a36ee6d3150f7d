"""containerd's filters, such as `topic~=|^/tasks/|,namespace==moby`.

A filter is a list of selectors, separated by commas, which all have to match; of several filters
one has to. A selector is a field's path and `==`, `!=` or `~=` (a regular expression) with a value,
or a path alone, which has to be there. Paths are parts separated by dots, quoted where they have
other characters; values may be quoted by `"`, and regular expressions by `|` or `/` as well.
"""

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import BadRequest

Fields = Callable[[Sequence[str]], str | None]
"""What a thing has at a path; None for what it has not."""

_FIELD = re.compile(r'[A-Za-z0-9_]+|"(?:[^"\\\n]|\\.)*"')
_OPERATOR = re.compile(r"[=!~]+")
_PLAIN = re.compile(r"[^\s,]+")
_QUOTED = {
    quote: re.compile(rf"{quote}(?:[^{quote}\\\n]|\\.)*{quote}") for quote in ('"', r"\|", "/")
}
_LIMIT = 4096


@dataclass(frozen=True)
class Selector:
    """One condition; `operator` is empty for that something is there."""

    path: tuple[str, ...]
    operator: str
    value: str
    pattern: re.Pattern[str] | None

    def matches(self, fields: Fields) -> bool:
        """Whether it holds for a thing."""
        found = fields(self.path)
        if self.operator == "":
            return found is not None
        if self.operator == "!=":
            return found != self.value
        if self.pattern is not None:
            return found is not None and self.pattern.search(found) is not None
        return found == self.value


Filter = tuple[Selector, ...]


def parse(texts: Sequence[str]) -> list[Filter]:
    """The filters of a request. Raises BadRequest."""
    return [_parse_one(text) for text in texts]


def matches(filters: Sequence[Filter], fields: Fields) -> bool:
    """Whether one of the filters, or the absence of any, lets a thing through."""
    return not filters or any(all(s.matches(fields) for s in one) for one in filters)


def _parse_one(text: str) -> Filter:
    if len(text) > _LIMIT:
        raise BadRequest(f"a filter of {len(text)} characters is refused: {_LIMIT} are the most")
    selectors: list[Selector] = []
    rest = text.strip()
    while rest:
        selector, rest = _selector(rest, text)
        selectors.append(selector)
        if rest.startswith(","):
            rest = rest[1:].lstrip()
            if not rest:
                raise _bad(text, "it ends with a comma")
        elif rest:
            raise _bad(text, f"a comma has to be before {rest!r}")
    return tuple(selectors)


def _selector(rest: str, text: str) -> tuple[Selector, str]:
    path: list[str] = []
    while True:
        found = _FIELD.match(rest)
        if found is None:
            raise _bad(text, f"no field's name at {rest!r}")
        path.append(_unquoted(found.group(0), text))
        rest = rest[found.end() :]
        if not rest.startswith("."):
            break
        rest = rest[1:]
    rest = rest.lstrip()
    found = _OPERATOR.match(rest)
    if found is None:
        return Selector(tuple(path), "", "", None), rest
    operator = found.group(0)
    if operator not in ("==", "!=", "~="):
        raise _bad(text, f"{operator} is none of ==, !=, ~=")
    value, rest = _value(rest[found.end() :].lstrip(), text, operator == "~=")
    pattern = None
    if operator == "~=":
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise _bad(text, f"no regular expression: {error}") from None
    return Selector(tuple(path), operator, value, pattern), rest.lstrip()


def _value(rest: str, text: str, regular: bool) -> tuple[str, str]:
    kinds = _QUOTED if regular else {'"': _QUOTED['"']}
    quoted = next((kind for key, kind in kinds.items() if rest.startswith(key[-1])), None)
    found = (quoted or _PLAIN).match(rest)
    if found is None:
        raise _bad(text, "a value is missing, or its quote does not end")
    value, rest = found.group(0), rest[found.end() :]
    if quoted is None:
        return value, rest
    if value[0] != '"':
        return value[1:-1].replace(f"\\{value[0]}", value[0]), rest
    return _unquoted(value, text), rest


def _unquoted(token: str, text: str) -> str:
    if not token.startswith('"'):
        return token
    try:
        return str(ast.literal_eval(token))
    except (ValueError, SyntaxError):
        raise _bad(text, f"a bad escape in {token}") from None


def _bad(text: str, why: str) -> BadRequest:
    return BadRequest(f"bad filter {text!r}: {why}")
