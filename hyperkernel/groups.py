"""The groups of a kernel fragment: what each is called, which feature needs it, its options."""

import re
from typing import NamedTuple

from .build import parse_options

_HEADING = re.compile(r"^# -- ([a-z0-9-]+): (.+)$")


class Group(NamedTuple):
    """A part of a fragment that begins with `# -- NAME: the feature that needs it`."""

    name: str
    feature: str
    options: dict[str, str]


def groups(fragment: str) -> list[Group]:
    """The groups of a fragment in their order. Raises ValueError for an option outside of one."""
    found: list[tuple[str, str, list[str]]] = []
    for line in fragment.splitlines():
        if heading := _HEADING.match(line):
            found.append((heading[1], heading[2], []))
        elif found:
            found[-1][2].append(line)
        elif parse_options(line):
            raise ValueError(f"{line} is before the first group")
    return [Group(name, feature, parse_options("\n".join(lines))) for name, feature, lines in found]


def options_of(parts: list[Group]) -> dict[str, str]:
    """The options of several groups; a later one wins."""
    return {name: value for part in parts for name, value in part.options.items()}


def as_fragment(options: dict[str, str]) -> str:
    """The options in the form that Kconfig reads; what is `n` is left out."""
    return "".join(f"{name}={value}\n" for name, value in options.items() if value != "n")
