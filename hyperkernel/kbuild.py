"""Which options each object file of a built kernel hangs on, and how big it is."""

import re
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from .build import run

Alternatives = list[frozenset[str]]
"""An object is built when all options of one of these sets are on."""

_OPTION = re.compile(r"CONFIG_\w+")
_ASSIGNMENT = re.compile(r"^([\w.$()/:,= -]+?)\s*[:+?]?=\s*(.*)$")
_CONDITION = re.compile(r"^(ifdef|ifndef|ifeq|ifneq|else|endif)\b(.*)")
# Of ELF64 (System V gABI, "Sections"): the flag of what is loaded, the type of what is only zeros.
_ALLOCATED, _ZEROS = 2, 8


class Sections(NamedTuple):
    """What an object gives to the kernel."""

    stored: bytes
    """Code and data, as they are in the kernel's file but for addresses."""
    zeros: int
    """Bytes of memory that are not stored."""


def linked_objects(tree: Path) -> list[str]:
    """The object files that vmlinux was linked of, relative to the tree."""
    libraries = ("vmlinux.a", "lib/lib.a", "arch/x86/lib/lib.a")
    listed = [run("ar", "t", name, cwd=tree).split() for name in libraries]
    return list(dict.fromkeys(path for paths in listed for path in paths))


def read_sections(path: Path) -> Sections:
    """What of an object file is loaded. Raises ValueError if it is no object of 64 bits."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        raise ValueError(f"{path} is no ELF file of 64 bits")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    stored, zeros = [], 0
    for number in range(count):
        kind, flags, _, offset, length = struct.unpack_from("<4xIQQQQ", data, table + number * size)
        if flags & _ALLOCATED and kind == _ZEROS:
            zeros += length
        elif flags & _ALLOCATED:
            stored.append(data[offset : offset + length])
    return Sections(b"".join(stored), zeros)


def gates(tree: Path, arch: str = "x86") -> dict[str, Alternatives]:
    """The options that each object of the tree's makefiles hangs on, by its path."""
    found: dict[str, Alternatives] = {}
    nowhere: frozenset[str] = frozenset()
    _descend(tree, "", nowhere, arch, found)
    for directory in (f"arch/{arch}/pci/", f"arch/{arch}/lib/", "lib/"):
        option = frozenset({"CONFIG_PCI"}) if "pci" in directory else nowhere
        _descend(tree, directory, option, arch, found)
    return found


def _descend(
    tree: Path, directory: str, above: frozenset[str], arch: str, found: dict[str, Alternatives]
) -> None:
    """Read a directory's makefile and those of the directories that it names."""
    lists = _lists(tree, directory, arch)
    for variable, items, options in lists:
        if not re.match(r"(obj|lib)-", variable):
            continue
        needed = above | options
        for item in items:
            if item.endswith("/"):
                _descend(tree, directory + item, needed, arch, found)
            elif item.endswith(".o"):
                members = _members(lists, item[:-2]) or [(item, frozenset())]
                for member, more in members:
                    found.setdefault(directory + member, []).append(needed | more)


def _members(
    lists: list[tuple[str, list[str], frozenset[str]]], name: str
) -> list[tuple[str, frozenset[str]]]:
    """The objects that one object is linked of, with the options of each; none for a simple one."""
    prefixes = (f"{name}-y", f"{name}-objs", f"{name}-$")
    return [
        (item, options)
        for variable, items, options in lists
        if variable.startswith(prefixes)
        for item in items
        if item.endswith(".o")
    ]


def _lists(tree: Path, directory: str, arch: str) -> list[tuple[str, list[str], frozenset[str]]]:
    """The assignments of a makefile: variable, words, and options that they hang on.

    A condition that is no `ifdef` or `ifeq` of one option is taken to be true.
    """
    path = next(
        (
            file
            for name in ("Kbuild", "Makefile")
            if (file := tree / directory / name).is_file() and (directory or name == "Kbuild")
        ),
        None,
    )
    if path is None:
        return []
    found: list[tuple[str, list[str], frozenset[str]]] = []
    conditions: list[frozenset[str]] = []
    for line in path.read_text().replace("\\\n", " ").splitlines():
        line = line.partition("#")[0].strip()
        if condition := _CONDITION.match(line):
            _follow(conditions, condition[1], condition[2])
        elif assignment := _ASSIGNMENT.match(line):
            variable, words = assignment[1].strip(), assignment[2].replace("$(SRCARCH)", arch)
            options = frozenset(_OPTION.findall(variable)).union(*conditions)
            found.append((variable, words.split(), options))
    return found


def _follow(conditions: list[frozenset[str]], word: str, rest: str) -> None:
    """Keep the options of the conditions that enclose a line."""
    if word == "endif":
        conditions[-1:] = []
    elif word == "else":
        conditions[-1:] = [frozenset()]
    else:
        positive = word == "ifdef" or (word == "ifeq" and re.search(r",\s*[ym]\)", rest))
        conditions.append(frozenset(_OPTION.findall(rest)) if positive else frozenset())


def symbols(tree: Path, paths: list[str]) -> dict[str, list[str]]:
    """The names of the symbols of each object, as nm has them."""
    done = subprocess.run(
        ["nm", "-A", "--format=posix", *paths],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        path, _, rest = line.partition(": ")
        found.setdefault(path, []).append(rest.split(" ")[0])
    return found
