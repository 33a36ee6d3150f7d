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

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from .failures import BadImage, quoted
from .tarstream import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
    Source,
    clean_link,
    clean_name,
    entries,
)
from .tarwrite import header

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_OPAQUE_XATTR = b"trusted.overlay.opaque"

_KINDS = frozenset((FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
# null, zero, full, random, urandom, tty, console, ptmx: Linux's Documentation/admin-guide/devices
_HARMLESS_DEVICES = frozenset(((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)))
_XATTR_PREFIXES = (b"user.", b"security.", b"trusted.")  # what squashfs can hold


@dataclass(frozen=True)
class Limits:
    """Bounds of one layer."""

    entries: int = 1_000_000
    bytes: int = 256 << 30
    held: int = 64 << 20  # bytes of extended attributes held in memory


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


@dataclass
class _Tree:
    """What of a layer is written at its end, and how many entries were read."""

    directories: dict[bytes, Entry] = field(default_factory=dict)
    whiteouts: set[bytes] = field(default_factory=set)
    opaque: set[bytes] = field(default_factory=set)
    count: int = 0


@dataclass
class Plan:
    """For a layer with double entries: the names, in the end, of the entry of each number."""

    names: dict[int, list[bytes]]
    directories: dict[bytes, Entry]


def implied_directory() -> Entry:
    """A directory that a layer has no entry for."""
    return Entry(b"", DIRECTORY, 0o755, 0, 0, 0, 0, b"", 0, 0, {})


def rewrite(
    source: Source, sink: Sink, what: str, limits: Limits, plan: Plan | None = None
) -> Facts:
    """Write the layer `what` to `sink` as described above; BadImage for what is refused.

    Raises NeedsPlan, at any point, when the layer can't be written in one pass.
    """
    tree = _Tree() if plan is None else _Tree(plan.directories)
    others: set[bytes] = set()
    if plan is not None:
        others = {name for names in plan.names.values() for name in names}
    root_mode: int | None = None
    for number, entry, path in _checked(source, what, limits, tree):
        if plan is not None:
            names = [] if entry.kind == HARDLINK else plan.names.get(number, [])
        elif entry.kind == DIRECTORY:
            if path in others or (not path and root_mode not in (None, entry.mode)):
                raise NeedsPlan
            _note_parents(path, others, tree.directories, what)
            tree.directories[path] = entry
            names = []
        else:
            _note_file(path, entry, others, tree.directories, what)
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


def _checked(
    source: Source, what: str, limits: Limits, tree: _Tree
) -> Iterator[tuple[int, Entry, bytes]]:
    """The numbered entries but whiteouts, which go to `tree`; refuses what is not allowed."""
    total = held = 0
    for number, entry in enumerate(entries(source, what)):
        total += entry.size
        tree.count = number + 1
        if number >= limits.entries:
            raise BadImage(f"{what} is refused: more than {limits.entries} entries")
        if total > limits.bytes:
            raise BadImage(f"{what} is refused: larger than {limits.bytes} bytes")
        if entry.kind not in _KINDS:
            raise BadImage(
                f"{what} is refused: {quoted(entry.name)} is of an unknown kind"
                f" ({quoted(entry.kind)})"
            )
        path = clean_name(entry.name, what)
        parent, _, base = path.rpartition(b"/")
        if base.startswith(WHITEOUT):
            _note_whiteout(parent, base, entry, tree, what)
            if entry.size and source.skip(entry.size) < entry.size:
                raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")
            continue
        if entry.xattrs:
            entry.xattrs = _kept_xattrs(entry.xattrs)
            held += sum(map(len, entry.xattrs.values())) if entry.kind == DIRECTORY else 0
            if held > limits.held:
                raise BadImage(f"{what} is refused: too many extended attributes")
        if entry.kind in (CHAR, BLOCK_DEVICE):
            _check_device(entry, what)
        if not path and entry.kind != DIRECTORY:
            raise BadImage(f"{what} is refused: the root is not a directory")
        yield number, entry, path


def _note_whiteout(parent: bytes, base: bytes, entry: Entry, tree: _Tree, what: str) -> None:
    if base == OPAQUE:
        tree.opaque.add(parent)
        return
    if base.startswith(b".wh..wh."):
        return  # aufs' own files: .wh..wh.plnk, .wh..wh.aufs
    hidden = base[len(WHITEOUT) :]
    if hidden in (b"", b".", b".."):
        raise BadImage(f"{what} is refused: {quoted(entry.name)} removes no name")
    tree.whiteouts.add(parent + b"/" + hidden if parent else hidden)


def _kept_xattrs(xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Those that squashfs can hold, without what would steer overlayfs."""
    return {
        key: value
        for key, value in xattrs.items()
        if key.startswith(_XATTR_PREFIXES)
        and not key.startswith((b"trusted.overlay.", b"user.overlay."))
        and len(key) < 256
        and len(value) <= 65536
    }


def _check_device(entry: Entry, what: str) -> None:
    if entry.kind == BLOCK_DEVICE or (entry.major, entry.minor) not in _HARMLESS_DEVICES:
        word = "block" if entry.kind == BLOCK_DEVICE else "character"
        raise BadImage(
            f"{what} is refused: {quoted(entry.name)} is a {word} device"
            f" ({entry.major}:{entry.minor})"
        )


def _note_file(
    path: bytes, entry: Entry, others: set[bytes], directories: dict[bytes, Entry], what: str
) -> None:
    """Note the names that a file takes: its own, and its parents' as directories."""
    if path in others or path in directories:
        raise NeedsPlan
    _note_parents(path, others, directories, what)
    if entry.kind == HARDLINK:
        entry.link = clean_link(entry.link, entry.name, what)
        if entry.link not in others:
            if entry.link == path or entry.link in directories or not entry.link:
                raise BadImage(f"{what} is refused: {quoted(path)} is a hard link to a directory")
            raise _missing_target(path, entry.link, what)
    others.add(path)


def _missing_target(path: bytes, link: bytes, what: str) -> BadImage:
    return BadImage(
        f"{what} is refused: {quoted(path)} is a hard link to {quoted(link)},"
        " which the layer does not have before it"
    )


def _note_parents(
    path: bytes, others: set[bytes], directories: dict[bytes, Entry], what: str
) -> None:
    for parent in _parents(path):
        if parent in directories:
            return
        if parent in others:
            raise _below_file(path, parent, what)
        directories[parent] = implied_directory()


def _below_file(path: bytes, parent: bytes, what: str) -> BadImage:
    return BadImage(
        f"{what} is refused: {quoted(path)} lies below {quoted(parent)}, which is no directory"
    )


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


def _write_end(sink: Sink, tree: _Tree, others: set[bytes]) -> None:
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
            _imply(path + b"/", directories)
    for path in sorted(tree.whiteouts - others):
        if _below(path, others, opaque, gone):
            continue
        if path in directories:
            opaque.add(path)
        else:
            gone.add(path)
            _imply(path, directories)
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


def _parents(path: bytes) -> Iterator[bytes]:
    """The directories above a path, nearest first, without the root."""
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def _below(path: bytes, *sets: set[bytes]) -> bool:
    """Whether a parent of `path` is in one of the sets."""
    return any(parent in names for parent in _parents(path) for names in sets)


def _imply(path: bytes, directories: dict[bytes, Entry]) -> None:
    for parent in _parents(path):
        if parent not in directories:
            directories[parent] = implied_directory()


@dataclass(slots=True)
class _Node:
    """A name in the final tree: a directory with `children`, or the entry of a number."""

    number: int
    entry: Entry
    children: "dict[bytes, _Node] | None"


def make_plan(source: Source, what: str, limits: Limits) -> Plan:
    """Read a whole layer and find what each name is in the end, as if it were unpacked."""
    root = _Node(-1, implied_directory(), {})
    for number, entry, path in _checked(source, what, limits, _Tree()):
        if source.skip(entry.size) < entry.size:
            raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")
        if not path:
            root.entry = entry
            continue
        parent, _, base = path.rpartition(b"/")
        siblings = _enter(root, parent, path, what)
        if entry.kind == DIRECTORY:
            old = siblings.get(base)
            children = old.children if old is not None and old.children is not None else {}
            siblings[base] = _Node(-1, entry, children)
        elif entry.kind == HARDLINK:
            target = _find(root, clean_link(entry.link, entry.name, what))
            if target is None or target.children is not None:
                raise _missing_target(path, entry.link, what)
            siblings[base] = target
        else:
            siblings[base] = _Node(number, entry, None)
    plan = Plan({}, {b"": root.entry})
    _collect(root, plan)
    return plan


def _enter(root: _Node, directory: bytes, path: bytes, what: str) -> dict[bytes, _Node]:
    """The children of `directory`, which is made as needed."""
    node = root
    for part in directory.split(b"/") if directory else []:
        assert node.children is not None
        child = node.children.get(part)
        if child is None:
            child = node.children[part] = _Node(-1, implied_directory(), {})
        if child.children is None:
            raise _below_file(path, directory, what)
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
