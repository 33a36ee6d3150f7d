"""From a layer's tar to a tar that `sqfstar` makes a correct overlayfs layer of.

A layer is a tar of changes (OCI image specification, "Image Layer Filesystem Changeset"):
`.wh.NAME` removes NAME of the layers below, `.wh..wh..opq` all that a directory has below.
overlayfs wants a character device 0:0, and the attribute trusted.overlay.opaque, instead.

`sqfstar` 4.5.1 keeps the first of two entries of one name where tar means the last, stops at a
directory that replaces a file, ignores the root's entry, gives parents without an entry the
present time, and crashes on a hard link whose target it has not seen. So files are passed on as
they come, and directories and whiteouts are written at the end, when all that is said of them is
known. The rare layer that writes a file twice is read once more, by a plan of what counts.
"""

from dataclasses import dataclass
from typing import Protocol

from .failures import BadImage, quoted
from .layerentries import Limits, Tree, checked, implied_directory, missing_target, parents
from .layerplan import Plan
from .tarstream import BLOCK, CHAR, DIRECTORY, HARDLINK, Entry, Source, clean_link
from .tarwrite import header

_OPAQUE_XATTR = b"trusted.overlay.opaque"


@dataclass
class Facts:
    """What a conversion found out about a layer."""

    entries: int = 0
    opaque_root: bool = False


class Sink(Protocol):
    """Where the rewritten tar goes."""

    def begin(self, root: Entry) -> None:
        """Called once, before the first write, with the root directory's attributes."""
        ...

    def write(self, data: bytes | memoryview) -> None: ...


class NeedsPlan(Exception):
    """The layer says something twice: read it again with `make_plan`, then with the plan."""


def rewrite(
    source: Source, sink: Sink, what: str, limits: Limits, plan: Plan | None = None
) -> Facts:
    """Write the layer `what` to `sink` as described above; BadImage for what is refused.

    Raises NeedsPlan, at any point, when the layer can't be written in one pass.
    """
    tree = Tree(what, limits, plan.directories if plan else {})
    others: set[bytes] = set()
    if plan is not None:
        others = {name for names in plan.names.values() for name in names}
    root_mode: int | None = None
    for number, entry, path in checked(source, tree):
        if plan is not None:
            names = [] if entry.kind == HARDLINK else plan.names.get(number, [])
        elif entry.kind == DIRECTORY:
            if path in others or (not path and root_mode not in (None, entry.mode)):
                raise NeedsPlan
            tree.imply(path, others)
            tree.directories[path] = entry
            names = []
        else:
            _note_file(path, entry, others, tree)
            names = [path]
        if names and root_mode is None:
            root = tree.directories.get(b"", implied_directory())
            sink.begin(root)
            root_mode = root.mode
        _write_entry(source, sink, entry, names, what)
    if root_mode is None:
        sink.begin(tree.directories.get(b"", implied_directory()))
    facts = Facts(entries=tree.count, opaque_root=b"" in tree.opaque)
    _write_end(sink, tree, others)
    return facts


def _note_file(path: bytes, entry: Entry, others: set[bytes], tree: Tree) -> None:
    """Note the names that a file takes: its own, and its parents' as directories."""
    what, directories = tree.what, tree.directories
    if path in others or path in directories:
        raise NeedsPlan
    tree.imply(path, others)
    if entry.kind == HARDLINK:
        entry.link = clean_link(entry.link, entry.name, what)
        if entry.link not in others:
            if entry.link == path or entry.link in directories or not entry.link:
                raise BadImage(f"{what} is refused: {quoted(path)} is a hard link to a directory")
            raise missing_target(path, entry.link, what)
    others.add(path)


def _write_entry(source: Source, sink: Sink, entry: Entry, names: list[bytes], what: str) -> None:
    """Write an entry under its first name, with links for further ones; pass over it if none."""
    if not names:
        if source.skip(entry.size) < entry.size:
            raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")
        return
    sink.write(header(entry, names[0], entry.link))
    if entry.size:
        left = entry.size
        for piece in source.pieces(entry.size):
            left -= len(piece)
            sink.write(piece)
        if left:
            raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")
        if padding := -entry.size % BLOCK:
            sink.write(bytes(padding))
    for name in names[1:]:
        link = Entry(b"", HARDLINK, entry.mode, entry.uid, entry.gid, 0, entry.mtime, b"", 0, 0, {})
        sink.write(header(link, name, names[0]))


def _write_end(sink: Sink, tree: Tree, others: set[bytes]) -> None:
    """Write directories and whiteouts, and the archive's end.

    A whiteout counts for the layers below only: where this layer has the name too, a file simply
    covers it, and a directory becomes opaque.
    """
    directories = tree.directories
    opaque: set[bytes] = set()
    gone: set[bytes] = set()
    for path in sorted(tree.opaque):
        if path not in others and not _below(path, others):
            opaque.add(path)
            tree.imply(path + b"/", others)
    for path in sorted(tree.whiteouts - others):
        if _below(path, others, opaque, gone):
            continue
        if path in directories:
            opaque.add(path)
        else:
            gone.add(path)
            tree.imply(path, others)
    for path in sorted(directories):
        if not path:
            continue
        entry = directories[path]
        if path in opaque:
            entry.xattrs = {**entry.xattrs, _OPAQUE_XATTR: b"y"}
        sink.write(header(entry, path))
    whiteout = Entry(b"", CHAR, 0, 0, 0, 0, 0, b"", 0, 0, {})
    for path in sorted(gone):
        sink.write(header(whiteout, path))
    sink.write(bytes(2 * BLOCK))


def _below(path: bytes, *sets: set[bytes]) -> bool:
    """Whether a parent of `path` is in one of the sets."""
    return any(parent in names for parent in parents(path) for names in sets)
