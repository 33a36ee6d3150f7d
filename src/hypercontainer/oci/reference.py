"""The table of docs/oci.md, made from `fields`: `python -m hypercontainer.oci.reference [FILE]`."""

import sys

from .fields import FIELDS

_BEGIN = "<!-- fields: made by python -m hypercontainer.oci.reference -->\n"
_END = "<!-- end of fields -->\n"


def table() -> str:
    """The table, in Markdown."""
    rows = [f"| `{field.path}` | {field.treatment} | {field.note} |" for field in FIELDS]
    return "\n".join(["| field | what runv does | how, or why |", "| --- | --- | --- |", *rows, ""])


def replaced(document: str) -> str:
    """The document with its table made anew. Raises ValueError when it has no place for it."""
    head, begin, rest = document.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError("the document lacks the marks of the table")
    return f"{head}{_BEGIN}{table()}{_END}{tail}"


def main() -> int:
    """Rewrite the document in place."""
    path = sys.argv[1] if len(sys.argv) > 1 else "docs/oci.md"
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(replaced(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
