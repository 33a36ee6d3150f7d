"""COPY and ADD: what they ask for, and the files that they take, from a context or an image."""

import asyncio
import posixpath
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadRequest
from ..images import ImageStore
from ..images.tarstream import FILE
from .context import archive_in, small_file
from .copying import NewLayer, Owner, select
from .instructions import Copy
from .tree import Node, extract, image_tree, new_directory, resolve
from .users import owner_of
from .words import expand

Found = list[tuple[bytes, Node]]


@dataclass(frozen=True)
class Request:
    """A COPY or ADD with its variables replaced; `target` is absolute and has no slash at its end.

    `folder` says that the target is certainly a directory.
    """

    add: bool
    sources: tuple[str, ...]
    documents: tuple[tuple[str, str], ...]
    target: str
    folder: bool
    chown: str
    mode: int | None

    def facts(self) -> tuple[object, ...]:
        """What the key of the step is made of, without the sources."""
        what = "ADD" if self.add else "COPY"
        return (what, self.documents, self.target, self.folder, self.chown, self.mode)


def request_of(
    instruction: Copy, config: Mapping[str, Any], variables: Mapping[str, str], escape: str
) -> Request:
    """What an instruction asks for. Raises BadRequest."""

    def replaced(text: str) -> str:
        return expand(text, variables, escape)

    target = replaced(instruction.target)
    if not target:
        raise BadRequest("the target is empty")
    several = len(instruction.sources) + len(instruction.heredocs) > 1
    if several and not _is_folder(target):
        raise BadRequest(f"{target}: several sources need a target that ends with /")
    absolute = posixpath.join("/", config.get("WorkingDir") or "/", target)
    return Request(
        instruction.add,
        tuple(replaced(source) for source in instruction.sources),
        tuple(
            (one.name, one.content if one.raw else _document(one.content, variables))
            for one in instruction.heredocs
        ),
        "/" + posixpath.normpath(absolute).lstrip("/"),
        _is_folder(target),
        replaced(instruction.chown),
        _mode(replaced(instruction.chmod)),
    )


def _is_folder(target: str) -> bool:
    return target.endswith("/") or posixpath.basename(target) in (".", "..")


def _document(text: str, variables: Mapping[str, str]) -> str:
    """A here-document with its variables replaced; quotation marks stay as they are."""
    return expand(re.sub(r"\\(?!\$)|['\"]", lambda match: "\\" + match[0], text), variables)


def _mode(text: str) -> int | None:
    if not text:
        return None
    if len(text) > 5 or any(c not in "01234567" for c in text):
        raise BadRequest(f"--chmod={text}: only octal numbers such as 0755 are supported")
    return int(text, 8) & 0o7777


def selected(wanted: Request, tree: Node, where: str) -> Found:
    """The files that the sources mean; blocks. Raises BadRequest."""
    found = [item for source in wanted.sources for item in select(tree, source, where)]
    if len(found) + len(wanted.documents) > 1 and not wanted.folder:
        raise BadRequest(f"{wanted.target}: several sources need a target that ends with /")
    return found


class Files:
    """Trees of images, and temporary files, of one build."""

    def __init__(self, images: ImageStore, folder: Path) -> None:
        self._images = images
        self._folder = folder
        self._trees: dict[str, Node] = {}

    def _spool(self) -> Path:
        return self._folder / f"{secrets.token_hex(8)}.data"

    async def tree(self, image: str) -> Node:
        """The files of an image ("" for none), read once. Raises NotFound, Conflict, BadImage."""
        if not image:
            return new_directory()
        if image not in self._trees:
            archives = self._images.layer_archives(image)
            self._trees[image] = await asyncio.to_thread(image_tree, archives)
        return self._trees[image]

    async def bring(self, nodes: Iterable[Node]) -> None:
        """Take the data of an image's files out of its layers."""
        await asyncio.to_thread(extract, list(nodes), self._spool())

    async def layer(self, wanted: Request, found: Found, below: Node) -> NewLayer:
        """The layer that a COPY or ADD makes. Raises BadRequest."""
        owner = await self._owner(below, wanted.chown) if wanted.chown else None
        layer = NewLayer(below, owner, wanted.mode)
        path = wanted.target.strip("/").encode(errors="surrogateescape")
        _, there = resolve(below, path)
        folder = wanted.folder or (there is not None and there.is_directory)
        documents = [
            (name.encode(), await asyncio.to_thread(self._written, text))
            for name, text in wanted.documents
        ]
        for name, node in [*found, *documents]:
            inner = None
            if wanted.add and node.kind == FILE and node.size:
                inner = await asyncio.to_thread(archive_in, node, self._spool())
            if inner is not None:
                layer.directory(path)
                for entry, child in (inner.children or {}).items():
                    layer.add(child, path + b"/" + entry if path else entry)
            elif folder and not node.is_directory:
                base = name.rpartition(b"/")[2]
                layer.add(node, path + b"/" + base if path else base)
            else:
                layer.add(node, path)
        return layer

    def _written(self, text: str) -> Node:
        data, path = text.encode(), self._spool()
        path.write_bytes(data)
        return Node(FILE, 0o644, 0, 0, 0, size=len(data), data=(path, 0))

    async def _owner(self, tree: Node, chown: str) -> Owner:
        tables: Sequence[bytes] = [await self._table(tree, n) for n in ("passwd", "group")]
        return owner_of(chown, *tables)

    async def _table(self, tree: Node, name: str) -> bytes:
        _, node = resolve(tree, f"etc/{name}".encode())
        if node is None or node.kind != FILE:
            return b""
        await self.bring([node])
        return await asyncio.to_thread(small_file, tree, f"etc/{name}") or b""
