"""From a Dockerfile's text to its lines: directives, continuation, comments, here-documents.

Source: Docker's Dockerfile reference.
"""

import re
from dataclasses import dataclass

from ..errors import BadRequest, NotSupported
from .instructions import Arg, Dockerfile, From, Heredoc, Instruction
from .reading import read_instruction

SIZE_LIMIT = 4 << 20
INSTRUCTION_LIMIT = 2000
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"<<(-?)([\"']?)([a-zA-Z_][a-zA-Z0-9_.]*)\2(?=\s|$|[;&|)>])")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True)
class Line:
    """A logical line: its number in the file, and its here-documents."""

    number: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()


def failed(line: int, error: str) -> BadRequest:
    """An error with the line that it belongs to."""
    return BadRequest(f"Dockerfile line {line}: {error}")


def parse(data: bytes) -> Dockerfile:
    """Read a Dockerfile; BadRequest names the line of what is wrong."""
    if len(data) > SIZE_LIMIT:
        raise BadRequest(f"the Dockerfile is larger than {SIZE_LIMIT >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("the Dockerfile is not UTF-8") from None
    lines = text.replace("\r\n", "\n").split("\n")
    escape = _directives(lines)
    arguments: list[Arg] = []
    found: list[Instruction] = []
    for line in _logical(lines, escape):
        instruction = instruction_of(line, escape)
        if not found and isinstance(instruction, Arg):
            arguments.append(instruction)
            continue
        if not found and not isinstance(instruction, From):
            raise failed(line.number, "the first instruction must be FROM (or ARG)")
        found.append(instruction)
        if len(found) > INSTRUCTION_LIMIT:
            raise failed(line.number, f"more than {INSTRUCTION_LIMIT} instructions")
    if not found:
        raise BadRequest("the Dockerfile has no FROM")
    return Dockerfile(tuple(arguments), tuple(found), escape)


def parse_line(text: str, escape: str = "\\") -> Instruction:
    """A single instruction, as of `commit --change`; BadRequest says what is wrong."""
    try:
        return read_instruction(0, text, (), escape)
    except BadRequest as error:
        raise BadRequest(f"{text!r}: {error.message}") from None


def instruction_of(line: Line, escape: str) -> Instruction:
    """The instruction of a line; its errors name the line."""
    try:
        return read_instruction(line.number, line.text, line.heredocs, escape)
    except NotSupported as error:
        raise NotSupported(failed(line.number, error.message).message) from None
    except BadRequest as error:
        raise failed(line.number, error.message) from None


def _directives(lines: list[str]) -> str:
    """Check the parser directives at the begin; the escape character."""
    escape = "\\"
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in ("syntax", "escape", "check"):
            break
        if name in seen:
            raise failed(number, f"the directive {name} is given twice")
        seen.add(name)
        if name == "escape":
            escape = match[2]
            if escape not in ("\\", "`"):
                raise failed(number, f"escape={escape}: it is either \\ or `")
        if name == "syntax" and not re.fullmatch(
            r"(docker\.io/)?docker/dockerfile(:1[0-9.]*(-labs)?|:latest)?", match[2]
        ):
            raise failed(number, f"syntax={match[2]}: only docker/dockerfile:1 is supported")
    return escape


def _logical(lines: list[str], escape: str) -> list[Line]:
    """Lines with their continuations and here-documents; no comments, no empty ones."""
    result: list[Line] = []
    at = 0
    while at < len(lines):
        number = at + 1
        stripped = lines[at].strip()
        if not stripped or stripped.startswith("#"):
            at += 1
            continue
        text = ""
        while at < len(lines):
            line = lines[at]
            if text and (not line.strip() or line.lstrip().startswith("#")):
                at += 1
                continue
            at += 1
            shortened = line.rstrip()
            if not shortened.endswith(escape):
                text += line if text else line.lstrip()
                break
            piece = shortened[: -len(escape)]
            text += piece if text else piece.lstrip()
        text = text.strip()
        heredocs: list[Heredoc] = []
        if text.partition(" ")[0].upper() in _WITH_HEREDOCS:
            for match in _HEREDOC.finditer(text):
                heredoc, at = _heredoc(lines, at, number, match)
                heredocs.append(heredoc)
        if text:
            result.append(Line(number, text, tuple(heredocs)))
    return result


def _heredoc(lines: list[str], at: int, number: int, match: re.Match[str]) -> tuple[Heredoc, int]:
    content: list[str] = []
    while at < len(lines):
        line = lines[at].lstrip("\t") if match[1] else lines[at]
        at += 1
        if line == match[3]:
            text = "".join(f"{one}\n" for one in content)
            return Heredoc(match[3], text, raw=bool(match[2])), at
        content.append(line)
    raise failed(number, f"the here-document {match[3]} has no end")
