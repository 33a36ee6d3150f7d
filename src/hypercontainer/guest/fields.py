"""Typed reading of JSON objects that people and engines wrote: what is wrong is named.

`where` is the path of the object (`process.`, `mounts[0].`). A key that is
absent or null gives the empty value. Each raises BadRequest.
"""

from ..errors import BadRequest
from ..quick.types import Any, NoReturn


def _wrong(where: str, key: str, expected: str, value: Any) -> NoReturn:
    raise BadRequest(f"{where}{key}: {expected} is expected, not {str(value)[:40]!r}")


def read_object(parent: dict[str, Any], key: str, where: str = "") -> dict[str, Any]:
    """An object."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        _wrong(where, key, "an object", value)
    return value


def read_list(parent: dict[str, Any], key: str, where: str = "") -> list[Any]:
    """An array of anything."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        _wrong(where, key, "an array", value)
    return value


def read_objects(
    parent: dict[str, Any], key: str, where: str = ""
) -> list[tuple[str, dict[str, Any]]]:
    """An array of objects, each with its own path."""
    found = []
    for index, value in enumerate(read_list(parent, key, where)):
        if not isinstance(value, dict):
            _wrong(where, f"{key}[{index}]", "an object", value)
        found.append((f"{where}{key}[{index}]", value))
    return found


def read_texts(parent: dict[str, Any], key: str, where: str = "") -> list[str]:
    """An array of strings."""
    values = read_list(parent, key, where)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            _wrong(where, f"{key}[{index}]", "a string", value)
    return values


def read_text(parent: dict[str, Any], key: str, where: str = "") -> str:
    """A string."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        _wrong(where, key, "a string", value)
    return value


def read_integer(parent: dict[str, Any], key: str, where: str = "", default: int = 0) -> int:
    """An integer."""
    value = parent.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        _wrong(where, key, "an integer", value)
    return value
