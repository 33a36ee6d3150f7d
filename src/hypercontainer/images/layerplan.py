"""Layers that say something twice: what counts in the end, found by a pass of its own."""

from dataclasses import dataclass

from .failures import BadImage, quoted
from .layerentries import Tree, below_file, checked, implied_directory, missing_target
from .tarstream import DIRECTORY, HARDLINK, Entry, Source, clean_link


@dataclass
class Plan:
    """For a layer with double entries: the names, in the end, of the entry of each number."""

    names: dict[int, list[bytes]]
    directories: dict[bytes, Entry]


@dataclass(slots=True)
class _Node:
    """A name in the final tree: a directory with `children`, or the entry of a number."""

    number: int
    entry: Entry
    children: "dict[bytes, _Node] | None"


def make_plan(source: Source, tree: Tree) -> Plan:
    """Read a whole layer and find what each name is in the end, as if it were unpacked."""
    what = tree.what
    root = _Node(-1, implied_directory(), {})
    for number, entry, path in checked(source, tree):
        if source.skip(entry.size) < entry.size:
            raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")
        if not path:
            root.entry = entry
            continue
        parent, _, base = path.rpartition(b"/")
        siblings = _enter(root, parent, path, tree)
        if entry.kind == DIRECTORY:
            old = siblings.get(base)
            children = old.children if old is not None and old.children is not None else {}
            siblings[base] = _Node(-1, entry, children)
        elif entry.kind == HARDLINK:
            target = _find(root, clean_link(entry.link, entry.name, what))
            if target is None or target.children is not None:
                raise missing_target(path, entry.link, what)
            siblings[base] = target
        else:
            siblings[base] = _Node(number, entry, None)
    plan = Plan({}, {b"": root.entry})
    _collect(root, plan)
    return plan


def _enter(root: _Node, directory: bytes, path: bytes, tree: Tree) -> dict[bytes, _Node]:
    """The children of `directory`, which is made as needed."""
    node = root
    for part in directory.split(b"/") if directory else []:
        assert node.children is not None
        child = node.children.get(part)
        if child is None:
            tree.hold(directory)
            child = node.children[part] = _Node(-1, implied_directory(), {})
        if child.children is None:
            raise below_file(path, directory, tree.what)
        node = child
    assert node.children is not None
    return node.children


def _find(root: _Node, path: bytes) -> _Node | None:
    node: _Node | None = root
    for part in path.split(b"/"):
        node = node.children.get(part) if node is not None and node.children else None
    return node


def _collect(root: _Node, plan: Plan) -> None:
    waiting: list[tuple[bytes, _Node]] = [(b"", root)]
    while waiting:
        prefix, node = waiting.pop()
        for base, child in sorted((node.children or {}).items()):
            path = prefix + base
            if child.children is None:
                plan.names.setdefault(child.number, []).append(path)
            else:
                plan.directories[path] = child.entry
                waiting.append((path + b"/", child))
