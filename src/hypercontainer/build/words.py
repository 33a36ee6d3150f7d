"""Words and variables in a Dockerfile's arguments.

Source: Dockerfile reference, "Environment replacement": $NAME, ${NAME}, ${NAME:-word},
${NAME:+word} and the forms without a colon; nothing is replaced within single quotes.
"""

from collections.abc import Mapping

from ..errors import BadRequest

_NAME_START = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_NAME = _NAME_START | frozenset("0123456789")
_DEPTH = 20
SIZE_LIMIT = 1 << 20
"""Characters that an argument may grow to."""


def split(text: str, escape: str = "\\") -> list[str]:
    """The words of a text, separated by blanks outside of quotes; quotes and escapes are kept."""
    words: list[str] = []
    word, quote, begun = "", "", False
    at = 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            begun = True
            at += 2
            continue
        if char.isspace() and not quote:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            begun = True
            word += char
            if quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
        at += 1
    if begun:
        words.append(word)
    if quote:
        raise BadRequest(f"a quotation mark {quote} is not closed")
    return words


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """A text with variables replaced, and without its quotes and escapes. Raises BadRequest."""
    result, end = _expand(text, 0, "", variables, escape, 0)
    assert end == len(text)
    return result


def _expand(
    text: str, at: int, stop: str, variables: Mapping[str, str], escape: str, depth: int
) -> tuple[str, int]:
    """The expansion from `at` to `stop` (outside of quotes) or the end, and where it ended."""
    if depth > _DEPTH:
        raise BadRequest("variables are nested too deep")
    result: list[str] = []
    size = 0
    quote = ""
    while at < len(text):
        char = text[at]
        if not quote and char == stop and stop:
            break
        if char == escape and quote != "'" and at + 1 < len(text):
            following = text[at + 1]
            if quote == '"' and following not in ('"', "$", escape):
                result.append(char)
            result.append(following)
            at += 2
            continue
        if char in "'\"" and quote in ("", char):
            quote = "" if quote else char
            at += 1
        elif char == "$" and quote != "'":
            value, at = _variable(text, at + 1, variables, escape, depth)
            size += len(value)
            if size > SIZE_LIMIT:
                raise BadRequest("variables make the line too long")
            result.append(value)
        else:
            result.append(char)
            at += 1
    if quote:
        raise BadRequest(f"a quotation mark {quote} is not closed")
    return "".join(result), at


def _variable(
    text: str, at: int, variables: Mapping[str, str], escape: str, depth: int
) -> tuple[str, int]:
    """The value of what stands after a `$`, and where it ends."""
    if at < len(text) and text[at] == "{":
        end = at + 1
        while end < len(text) and text[end] in _NAME:
            end += 1
        name = text[at + 1 : end]
        if not name or end >= len(text):
            raise BadRequest(f"bad variable {text[at - 1 : at + 20]!r}")
        if text[end] == "}":
            return variables.get(name, ""), end + 1
        operator = text[end : end + 2] if text[end] == ":" else text[end]
        if operator not in (":-", ":+", ":?", "-", "+", "?"):
            raise BadRequest(f"bad variable {text[at - 1 : end + 2]!r}: ${{NAME:-word}} is known")
        word, end = _expand(text, end + len(operator), "}", variables, escape, depth + 1)
        if end >= len(text):
            raise BadRequest(f"bad variable {text[at - 1 : at + 20]!r}: a }} is missing")
        return _choose(name, operator, word, variables), end + 1
    end = at
    if end < len(text) and text[end] in _NAME_START:
        while end < len(text) and text[end] in _NAME:
            end += 1
        return variables.get(text[at:end], ""), end
    return "$", at


def _choose(name: str, operator: str, word: str, variables: Mapping[str, str]) -> str:
    value = variables.get(name)
    given = bool(value) if operator[0] == ":" else value is not None
    match operator[-1]:
        case "-":
            return value or "" if given else word
        case "+":
            return word if given else ""
        case _:
            if not given:
                raise BadRequest(f"the variable {name} is not set: {word or 'it is needed'}")
            return value or ""
