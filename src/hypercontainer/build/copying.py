"""The layers of COPY, ADD and WORKDIR, made of trees: nothing is unpacked on the host."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..errors import BadRequest
from ..images.failures import quoted
from ..images.tarstream import BLOCK, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from ..images.tarwrite import header
from .ignore import component
from .tree import Node, resolve, walk

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Owner:
    """Who new files belong to; None: as they did (in an image), or root."""

    uid: int
    gid: int


class NewLayer:
    """Files to be put above a tree. `owner` and `mode` are for all that is added."""

    def __init__(self, below: Node, owner: Owner | None, mode: int | None) -> None:
        self._below = below
        self._owner = owner
        self._mode = mode
        self._items: dict[bytes, tuple[Entry, Node | None]] = {}

    def directory(self, path: bytes, like: Node | None = None) -> bytes:
        """Make a directory, and those above it, unless they are there; where it really is.

        A new one has the attributes of `like`. Raises BadRequest.
        """
        found, node = resolve(self._below, path)
        if node is not None and not node.is_directory:
            raise BadRequest(f"{quoted(b'/' + path)} is not a directory")
        parts = found.split(b"/") if found else []
        for end in range(len(parts) + 1):
            self._level(b"/".join(parts[:end]), like if end == len(parts) else None)
        return found

    def _level(self, path: bytes, like: Node | None) -> None:
        if path in self._items:
            if self._items[path][0].kind != DIRECTORY:
                raise BadRequest(f"{quoted(b'/' + path)} is not a directory")
            return
        _check_name(path)
        _, node = resolve(self._below, path, last=False)
        if node is not None and node.is_directory:
            self._items[path] = (_entry(node), None)
        else:
            new = like or Node(DIRECTORY, 0o755, 0, 0, 0, children={})
            self._items[path] = (self._own(_entry(new)), None)

    def add(self, node: Node, target: bytes) -> None:
        """Put a file, or a directory with all below, at a path. Raises BadRequest."""
        roots = {b"": target}
        for path, one in walk(node):
            parent, _, base = path.rpartition(b"/")
            where = roots[parent] + b"/" + base if path else target
            if one.is_directory:
                roots[path] = self.directory(where.strip(b"/"), one)
            else:
                self._file(one, where.strip(b"/"))

    def _file(self, node: Node, path: bytes) -> None:
        parent, _, base = path.rpartition(b"/")
        place = self.directory(parent)
        path = place + b"/" + base if place else base
        _, there = resolve(self._below, path, last=False)
        taken = self._items.get(path)
        if (there is not None and there.is_directory) or (taken and taken[0].kind == DIRECTORY):
            raise BadRequest(f"can't put a file over the directory {quoted(b'/' + path)}")
        _check_name(path)
        self._items[path] = (self._own(_entry(node)), node)

    def _own(self, entry: Entry) -> Entry:
        if self._owner is not None:
            entry = replace(entry, uid=self._owner.uid, gid=self._owner.gid)
        if self._mode is not None and entry.kind != SYMLINK:
            entry = replace(entry, mode=self._mode)
        return entry

    def tar(self) -> Iterator[bytes]:
        """The layer as a tar, piece by piece. Blocks."""
        written: dict[int, bytes] = {}
        for path in sorted(self._items):
            entry, node = self._items[path]
            if not path:
                yield header(entry, b".")
                continue
            if node is not None and id(node) in written:
                yield header(replace(entry, kind=HARDLINK, size=0), path, written[id(node)])
                continue
            yield header(entry, path, entry.link)
            if node is not None and node.kind == FILE:
                written[id(node)] = path
                yield from content(node)
                yield bytes(-node.size % BLOCK)
        yield bytes(2 * BLOCK)


def _check_name(path: bytes) -> None:
    if path.rpartition(b"/")[2].startswith(b".wh."):
        raise BadRequest(f"{quoted(path)}: a layer can't hold names that begin with .wh.")


def _entry(node: Node) -> Entry:
    size = node.size if node.kind == FILE else 0
    return Entry(
        b"",
        node.kind,
        node.mode,
        node.uid,
        node.gid,
        size,
        node.mtime,
        node.link if node.kind == SYMLINK else b"",
        *node.device,
        node.xattrs,
    )


def content(node: Node) -> Iterator[bytes]:
    """A file's data, piece by piece. Blocks."""
    path, offset = node.data
    left = node.size
    if not left:
        return
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while left:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise BadRequest(f"{path.name} is truncated")
            left -= len(data)
            yield data


def select(root: Node, pattern: str, where: str) -> list[tuple[bytes, Node]]:
    """The files that a source of COPY means, with their paths; links are followed in the tree.

    `where` names the tree in errors. Raises BadRequest when there is none.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadRequest(f"{pattern!r} leads out of {where}")
    if not re.search(r"[*?\[\\]", pattern):
        path, node = resolve(root, "/".join(parts).encode(errors="surrogateescape"))
        found = [(path, node)] if node is not None else []
        if found and parts:
            name = parts[-1].encode(errors="surrogateescape")
            found = [(path.rpartition(b"/")[0] + b"/" + name, found[0][1])]
    else:
        found = _glob(root, parts)
    if not found:
        raise BadRequest(f"no such file in {where}: {pattern!r}")
    return [(path.strip(b"/"), node) for path, node in found]


def _glob(root: Node, parts: list[str]) -> list[tuple[bytes, Node]]:
    found: list[tuple[bytes, Node]] = [(b"", root)]
    for part in parts:
        expression = re.compile(component(part))
        deeper: list[tuple[bytes, Node]] = []
        for path, node in found:
            if node.kind == SYMLINK:
                _, target = resolve(root, path)
                node = target if target is not None else node
            for name in sorted(node.children or ()):
                if expression.fullmatch(name.decode(errors="surrogateescape")):
                    assert node.children is not None
                    deeper.append((path + b"/" + name if path else name, node.children[name]))
        found = deeper
    return [(path, resolve(root, path)[1] or node) for path, node in found]


def fingerprint(found: Iterable[tuple[bytes, Node]]) -> str:
    """A digest of files' names, attributes and contents, but not of their times. Blocks."""
    digest = hashlib.sha256()
    for top, node in found:
        for path, one in walk(node, top):
            facts = (path, one.kind, one.mode, one.uid, one.gid, one.size, one.link)
            digest.update(repr((*facts, sorted(one.xattrs.items()))).encode())
            if one.kind == FILE:
                for piece in content(one):
                    digest.update(piece)
    return digest.hexdigest()


def make_root_owned(root: Node) -> None:
    """Files of a context belong to root, as Docker has it."""
    for _, node in walk(root):
        node.uid = node.gid = 0
