"""Pod specifications in files: JSON, or YAML with the same keys."""

from __future__ import annotations

import json
import sys

from ..errors import BadRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_SIZE = 4 << 20
_MAX_NODES = 100_000
_MAX_DEPTH = 50


def read(path: str, *, yaml: bool | None = None) -> dict[str, Any]:
    """The object in a file, `-` for standard input; `yaml` None: as its name and text say.

    Raises BadRequest with the line of what is wrong, also for more than 4 MiB, 100,000
    values (aliases counted as what they stand for) or 50 levels.
    """
    text = _text(path)
    if yaml is None:
        yaml = path.endswith((".yaml", ".yml")) or not text.lstrip().startswith("{")
    value = _yaml(text, path) if yaml else _json(text, path)
    if not isinstance(value, dict):
        raise BadRequest(f"{path}: an object is expected")
    _measure(value, path)
    return value


def _text(path: str) -> str:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MAX_SIZE + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MAX_SIZE + 1)
        if len(data) > _MAX_SIZE:
            raise BadRequest(f"{path}: more than {_MAX_SIZE >> 20} MiB is no pod file")
        return data.decode()
    except OSError as error:
        raise BadRequest(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError:
        raise BadRequest(f"{path}: not UTF-8") from None


def _json(text: str, path: str) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise BadRequest(f"{path}: too deep") from None
    except ValueError as error:
        raise BadRequest(f"{path}: not JSON: {error}") from None


def _yaml(text: str, path: str) -> object:
    """One document of YAML 1.2's core schema: `22:22`, `yes` and dates are strings."""
    from .yaml import YAMLError, load

    try:
        return load(text)
    except RecursionError:
        raise BadRequest(f"{path}: too deep") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise BadRequest(f"{path}{line}: {problem}") from None


def _measure(value: object, path: str) -> None:
    """Count values as if each alias were written out, without writing it out."""
    left = _MAX_NODES
    stack: list[tuple[object, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise BadRequest(f"{path}: too large: more than {_MAX_NODES} values, or too deep")
        if isinstance(item, dict):
            stack += [(child, depth + 1) for child in item.values()]
        elif isinstance(item, list):
            stack += [(child, depth + 1) for child in item]
