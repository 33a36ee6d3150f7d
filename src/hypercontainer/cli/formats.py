"""`--format`: table, json, and simple templates as Docker has them (`{{.Names}}: {{.Status}}`)."""

from __future__ import annotations

import json
import re

from .arguments import UsageError
from .output import print_table, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from .arguments import Parser

    Row = Mapping[str, Any]

_ACTION = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_FIELD = re.compile(r"(json\s+)?((?:\.\w+)+|\.)(?:\s+\"([^\"]*)\")?", re.ASCII)
_LABEL = ("Label",)
_MISSING = object()


class Field:
    """What stands between braces: the path of a value, `json .PATH`, or `.Label "NAME"`."""

    __slots__ = ("as_json", "label", "path")

    def __init__(self, path: tuple[str, ...], *, as_json: bool, label: str | None) -> None:
        self.path = path
        self.as_json = as_json
        self.label = label

    def text(self, row: Row) -> str:
        """The value as text. Raises UsageError when there is none of that path."""
        if self.label is not None:
            return str((row.get("_labels") or {}).get(self.label, ""))
        value = self._value(row)
        if self.as_json:
            return json.dumps(value, ensure_ascii=False)
        if value is None:
            return "<no value>"
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def _value(self, row: Row) -> Any:
        if not self.path:
            return {key: value for key, value in row.items() if key != "_labels"}
        value: Any = row
        for name in self.path:
            value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
            if value is _MISSING:
                raise UsageError(f"--format: there is no .{'.'.join(self.path)}")
        return value


class Template:
    """Text with fields in it. With `table ` before it there is a header, and columns by tabs."""

    def __init__(self, text: str) -> None:
        """Raises UsageError for what is no simple template."""
        self.table = text.startswith("table ")
        text = text.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
        self.parts: list[str | Field] = []
        end = 0
        for match in _ACTION.finditer(text):
            self.parts += [text[end : match.start()], _field(match[1].strip())]
            end = match.end()
        self.parts.append(text[end:])
        if len(self.parts) == 1:
            raise UsageError(
                f"--format: {text!r} has no field: give table, json, or a template such as"
                " '{{.ID}} {{.Status}}'"
            )

    def check(self, known: Sequence[str]) -> None:
        """Raises UsageError for a field that is not among those known."""
        for part in self.parts:
            if not isinstance(part, Field) or part.path in ((), _LABEL):
                continue
            name = ".".join(part.path)
            if name not in known:
                raise UsageError(f"--format: no field .{name}: there are {', '.join(known)}")

    def render(self, row: Row) -> str:
        """A row's text."""
        return "".join(p if isinstance(p, str) else p.text(row) for p in self.parts)

    def header(self, titles: Mapping[str, str]) -> str:
        """The titles of the columns in the place of the fields."""
        return "".join(
            p if isinstance(p, str) else titles.get(p.path[0] if p.path else "", p.label or "")
            for p in self.parts
        )


def _field(text: str) -> Field:
    match = _FIELD.fullmatch(text)
    path = tuple(match[2].strip(".").split(".")) if match and match[2] != "." else ()
    labelled = match is not None and match[3] is not None
    if match is None or labelled != (path == _LABEL):
        raise UsageError(
            f"--format: {{{{{text}}}}} is not supported:"
            ' {{.Field}}, {{json .Field}}, {{json .}} and {{.Label "NAME"}} are'
        )
    return Field(path, as_json=bool(match[1]), label=match[3])


def add_template(parser: Parser, titles: Mapping[str, str], *flags: str) -> None:
    """The option `--format` of a command that lists; `titles` are its fields with their headers."""
    parser.add_argument(
        *flags,
        "--format",
        default="table",
        metavar="FORMAT",
        help="table, json (everything, for scripts) or a template: '{{.ID}}: {{json .Labels}}',"
        f" 'table {{{{.ID}}}}\\t{{{{.Size}}}}'; fields: {', '.join(titles)} (default: table)",
    )


def print_by_template(
    text: str, titles: Mapping[str, str], rows: Callable[[], Sequence[Row]]
) -> None:
    """Print rows by a template. Raises UsageError before it asks for the rows."""
    template = Template(text)
    template.check(list(titles))
    if not template.table:
        for row in rows():
            show(template.render(row))
        return
    cells = [template.render(row).split("\t") for row in rows()]
    print_table(template.header(titles).split("\t"), cells)
