"""Files of images and of contexts as trees in memory, read from their tar archives."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadRequest
from ..images.archivefile import FileSource
from ..images.blobs import plain
from ..images.failures import BadImage, quoted
from ..images.tarstream import (
    DIRECTORY,
    FILE,
    HARDLINK,
    SYMLINK,
    ChunkSource,
    Entry,
    Source,
    clean_link,
    clean_name,
    entries,
)

ENTRY_LIMIT = 1_000_000
_LINK_LIMIT = 40
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_IMPLIED = (0o755, 0, 0, 0)


@dataclass(slots=True, eq=False)
class Node:
    """A file; hard links share one. `data` says where its content is, by archive and place."""

    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    data: tuple[Path, int] = (Path(), -1)
    children: "dict[bytes, Node] | None" = None

    @property
    def is_directory(self) -> bool:
        """Whether it can have children."""
        return self.children is not None


def new_directory() -> Node:
    """A directory that nothing is said of."""
    mode, uid, gid, mtime = _IMPLIED
    return Node(DIRECTORY, mode, uid, gid, mtime, children={})


@dataclass
class _Layer:
    """What one archive says."""

    root: Node = field(default_factory=new_directory)
    whiteouts: list[bytes] = field(default_factory=list)
    opaque: list[bytes] = field(default_factory=list)


def context_tree(archive: Path, what: str) -> Node:
    """The files of a plain tar; their data are places in it. Blocks; raises BadImage."""
    with open(archive, "rb", buffering=0) as file:
        source = FileSource(file.fileno())
        layer = _Layer()
        for number, entry in enumerate(entries(source, what)):
            _take(layer, entry, (archive, source.at), number, what, whiteouts=False)
            _skip(source, entry, what)
    return layer.root


def image_tree(blobs: Iterable[Path]) -> Node:
    """The files of layers, bottom first; their data are numbers of entries. Blocks."""
    root = new_directory()
    for blob in blobs:
        layer, what = _Layer(), f"layer {blob.stem[:12]}"
        source = ChunkSource(plain(blob, what))
        for number, entry in enumerate(entries(source, what)):
            _take(layer, entry, (blob, number), number, what, whiteouts=True)
            _skip(source, entry, what)
        _apply(root, layer)
    return root


def _skip(source: Source, entry: Entry, what: str) -> None:
    if source.skip(entry.size) < entry.size:
        raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")


def _take(
    layer: _Layer, entry: Entry, data: tuple[Path, int], number: int, what: str, *, whiteouts: bool
) -> None:
    if number >= ENTRY_LIMIT:
        raise BadImage(f"{what} is refused: more than {ENTRY_LIMIT} entries")
    path = clean_name(entry.name, what)
    if not path:
        _describe(layer.root, entry)
        return
    parent_path, _, base = path.rpartition(b"/")
    if whiteouts and base == _OPAQUE:
        layer.opaque.append(parent_path)
        return
    if whiteouts and base.startswith(_WHITEOUT):
        layer.whiteouts.append(path[: -len(base)] + base[len(_WHITEOUT) :])
        return
    parent = _make(layer.root, parent_path)
    assert parent.children is not None
    if entry.kind == DIRECTORY:
        old = parent.children.get(base)
        node = old if old is not None and old.is_directory else new_directory()
        _describe(node, entry)
        parent.children[base] = node
    elif entry.kind == HARDLINK:
        target = lookup(layer.root, clean_link(entry.link, entry.name, what))
        if target is None or target.is_directory:
            raise BadImage(f"{what} is refused: {quoted(path)} is a hard link to nothing")
        parent.children[base] = target
    else:
        node = Node(entry.kind, 0, 0, 0, 0, data=data)
        node.size, node.link = entry.size, entry.link
        node.device = (entry.major, entry.minor)
        _describe(node, entry)
        parent.children[base] = node


def _describe(node: Node, entry: Entry) -> None:
    node.mode, node.uid, node.gid, node.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
    node.xattrs = entry.xattrs


def _make(root: Node, path: bytes) -> Node:
    """The directory at a path, made as needed."""
    node = root
    for part in path.split(b"/") if path else []:
        assert node.children is not None
        child = node.children.get(part)
        if child is None or not child.is_directory:
            child = node.children[part] = new_directory()
        node = child
    return node


def _apply(root: Node, layer: _Layer) -> None:
    for path in layer.opaque:
        node = lookup(root, path)
        if node is not None and node.children is not None:
            node.children.clear()
    for path in layer.whiteouts:
        parent = lookup(root, path.rpartition(b"/")[0])
        if parent is not None and parent.children is not None:
            parent.children.pop(path.rpartition(b"/")[2], None)
    pairs = [(root, layer.root)]
    while pairs:
        lower, upper = pairs.pop()
        lower.mode, lower.uid, lower.gid = upper.mode, upper.uid, upper.gid
        lower.mtime, lower.xattrs = upper.mtime, upper.xattrs
        assert lower.children is not None and upper.children is not None
        for name, node in upper.children.items():
            old = lower.children.get(name)
            if old is not None and old.is_directory and node.is_directory:
                pairs.append((old, node))
            else:
                lower.children[name] = node


def lookup(root: Node, path: bytes) -> Node | None:
    """What is at a path, links not followed."""
    node: Node | None = root
    for part in path.split(b"/") if path else []:
        if node is None or node.children is None:
            return None
        node = node.children.get(part)
    return node


def resolve(root: Node, path: bytes, *, last: bool = True) -> tuple[bytes, Node | None]:
    """Where a path leads to, links followed (the last part's only if `last`), and what is there.

    What does not exist is kept as it is. Links never lead out of the tree. Raises BadRequest.
    """
    todo = [part for part in reversed(path.split(b"/")) if part]
    done: list[bytes] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == b".":
            continue
        if part == b"..":
            done[-1:] = []
            continue
        node = lookup(root, b"/".join((*done, part)))
        if node is not None and node.kind == SYMLINK and (todo or last):
            links += 1
            if links > _LINK_LIMIT:
                raise BadRequest(f"{quoted(path)}: too many symbolic links")
            if node.link.startswith(b"/"):
                done.clear()
            todo.extend(piece for piece in reversed(node.link.split(b"/")) if piece)
            continue
        if node is not None and todo and not node.is_directory:
            raise BadRequest(f"{quoted(b'/'.join((*done, part)))} is not a directory")
        done.append(part)
    found = b"/".join(done)
    return found, lookup(root, found)


def walk(node: Node, path: bytes = b"") -> Iterator[tuple[bytes, Node]]:
    """A node and all below it with their paths, parents first, sorted."""
    stack = [(path, node)]
    while stack:
        where, one = stack.pop()
        yield where, one
        for name in sorted(one.children or (), reverse=True):
            assert one.children is not None
            stack.append((where + b"/" + name if where else name, one.children[name]))


def extract(nodes: Iterable[Node], spool: Path) -> None:
    """Copy the data of files of an image to a file, which they are read from then. Blocks."""
    wanted: dict[Path, dict[int, Node]] = {}
    for node in nodes:
        if node.kind == FILE and node.size and node.data[0].suffix == ".tar":
            wanted.setdefault(node.data[0], {})[node.data[1]] = node
    with open(spool, "ab") as file:
        for blob, numbers in wanted.items():
            what = f"layer {blob.stem[:12]}"
            source = ChunkSource(plain(blob, what))
            for number, entry in enumerate(entries(source, what)):
                node_or_none = numbers.get(number)
                if node_or_none is None:
                    _skip(source, entry, what)
                    continue
                place = (spool, file.tell())
                for piece in source.pieces(entry.size):
                    file.write(piece)
                node_or_none.data = place
