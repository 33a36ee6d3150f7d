"""Reading JSON that people write: typed, and with the path of a bad key in each error."""

import difflib
from collections.abc import Sequence
from typing import TypeVar

from ..errors import BadRequest, NotSupported

T = TypeVar("T")


class Node:
    """A JSON object. What is taken is checked; `done` refuses what nobody took.

    Keys match without regard to case, as they did in the original (Go's JSON).
    A null is an absent key. All methods raise BadRequest naming the key's path.
    """

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise BadRequest(f"{path or 'the specification'}: an object is expected")
        self.path = path
        self._values: dict[str, object] = {}
        self._written: dict[str, str] = {}
        self._taken: set[str] = set()
        for key, item in value.items():
            folded = key.lower()
            if folded in self._written:
                raise BadRequest(f"{self.where(key)}: given twice")
            self._written[folded] = key
            self._values[folded] = item

    def where(self, key: str) -> str:
        """The path of a key, as errors show it."""
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str) -> object:
        """The value as it is, or None."""
        self._taken.add(key.lower())
        return self._values.get(key.lower())

    def bad(self, key: str, why: str) -> BadRequest:
        """An error about a key."""
        return BadRequest(f"{self.where(key)}: {why}")

    def text(self, key: str, default: str = "") -> str:
        """A string without NUL bytes."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str) or "\0" in value:
            raise self.bad(key, "a string is expected")
        return value

    def boolean(self, key: str) -> bool:
        """A boolean; false when absent."""
        return self.maybe_boolean(key) or False

    def maybe_boolean(self, key: str) -> bool | None:
        """A boolean, or None when absent."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self.bad(key, "true or false is expected")
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """An integer between two bounds."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.bad(key, f"a number from {low} to {high} is expected")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number, whole or not, between two bounds."""
        value = self.take(key)
        if value is None:
            return default
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not low <= value <= high
        ):
            raise self.bad(key, f"a number from {low:g} to {high:g} is expected")
        return float(value)

    def items(self, key: str) -> list[tuple[str, object]]:
        """The elements of an array, each with its path."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(key, "an array is expected")
        return [(f"{self.where(key)}[{index}]", item) for index, item in enumerate(value)]

    def objects(self, key: str) -> list["Node"]:
        """An array of objects."""
        return [Node(item, path) for path, item in self.items(key)]

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings; empty when absent."""
        return self.maybe_texts(key) or ()

    def maybe_texts(self, key: str) -> tuple[str, ...] | None:
        """An array of strings, or None when absent."""
        if self.take(key) is None:
            return None
        result: list[str] = []
        for path, item in self.items(key):
            if not isinstance(item, str) or "\0" in item:
                raise BadRequest(f"{path}: a string is expected")
            result.append(item)
        return tuple(result)

    def child(self, key: str) -> "Node | None":
        """An object, or None when absent."""
        value = self.take(key)
        return None if value is None else Node(value, self.where(key))

    def mapping(self, key: str) -> dict[str, str]:
        """An object of strings."""
        value = self.take(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.bad(key, "an object is expected")
        for name, item in value.items():
            if not isinstance(item, str) or "\0" in item or "\0" in name:
                raise BadRequest(f"{self.where(key)}.{name}: a string is expected")
        return dict(value)

    def choice(self, key: str, allowed: Sequence[str], default: str) -> str:
        """One of some words."""
        value = self.text(key, default) or default
        if value not in allowed:
            raise self.bad(key, f"{value!r} is none of {', '.join(allowed)}")
        return value

    def done(self) -> None:
        """Refuse the keys that nobody took."""
        for folded, key in self._written.items():
            if folded not in self._taken:
                close = difflib.get_close_matches(folded, self._taken, 1)
                hint = f": did you mean {close[0]}?" if close else ""
                raise BadRequest(f"{self.where(key)}: unknown key{hint}")


def refuse(node: Node, *keys: str, why: str = "") -> None:
    """Raise NotSupported when one of some known keys is given; `why` it never will be."""
    for key in keys:
        if node.take(key):
            never = f"not supported: {why}" if why else "not supported yet"
            raise NotSupported(f"{node.where(key)}: {never}")


def unique(items: list[tuple[str, T]], what: str) -> dict[str, T]:
    """By name. Raises BadRequest when a name is there twice."""
    result: dict[str, T] = {}
    for index, (name, item) in enumerate(items):
        if name in result:
            raise BadRequest(f"{what}[{index}].name: {name!r} is used twice")
        result[name] = item
    return result
