"""YAML as JSON would be: strings as keys, YAML 1.2's core schema, no key twice."""

from __future__ import annotations

import re

import yaml
from yaml import YAMLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["YAMLError", "load"]


class _Loader(yaml.SafeLoader):
    """SafeLoader whose plain scalars are those of the core schema (YAML 1.2.2, 10.3.2)."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolver("null", r"^(?:~|null|Null|NULL|)$", "~nN")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])
_resolver("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolver("int", r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)$", "-+0123456789")
_resolver(
    "float",
    r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
    "-+.0123456789",
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            key = key_node.value
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, "a key is no string", key_node.start_mark
            )
        if key in result:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", key_node.start_mark
            )
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if len(text) > 30:
        raise yaml.constructor.ConstructorError(
            None, None, "a number of more than 30 digits", node.start_mark
        )
    return int(text, 16 if text.startswith("0x") else 10)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def load(text: str) -> Any:
    """The one document of a text. Raises YAMLError, RecursionError."""
    return yaml.load(text, Loader=_Loader)
