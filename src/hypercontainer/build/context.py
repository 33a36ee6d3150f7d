"""A build's context: the tar archive that came with the request, and archives within it."""

import asyncio
import bz2
import lzma
from collections.abc import AsyncIterable, Iterator
from pathlib import Path
from typing import IO

from ..errors import BadRequest
from ..images.blobs import SIZE_LIMIT
from ..images.compression import CHUNK, decompress
from ..images.failures import BadImage, disk_errors
from .copying import content, make_root_owned
from .ignore import Ignore
from .tree import Node, context_tree, new_directory, resolve

_WHAT = "the context"
_SMALL = 4 << 20
_MAGIC_AT = 257


async def receive(body: AsyncIterable[bytes], raw: Path) -> None:
    """Put a request's body into a file. Raises NoSpace, BadImage (too large)."""
    size = 0
    with disk_errors(str(raw.parent), _WHAT), open(raw, "xb") as file:
        async for piece in body:
            size += len(piece)
            if size > SIZE_LIMIT:
                raise BadImage(f"{_WHAT} is refused: larger than {SIZE_LIMIT} bytes")
            await asyncio.to_thread(file.write, piece)


def read_context(raw: Path) -> Node:
    """The files of a context. Blocks; raises BadImage."""
    if not raw.stat().st_size:
        return new_directory()
    plain = raw.with_suffix(".tar.plain")
    _unpack(raw, plain, 0, raw.stat().st_size)
    raw.unlink()
    root = context_tree(plain, _WHAT)
    make_root_owned(root)
    return root


def small_file(root: Node, path: str) -> bytes | None:
    """The content of a small file of a context, None if there is none. Blocks."""
    _, node = resolve(root, path.encode(errors="surrogateescape"))
    if node is None or node.is_directory:
        return None
    if node.size > _SMALL:
        raise BadRequest(f"{path} is larger than {_SMALL >> 20} MiB")
    return b"".join(content(node))


def leave_out(root: Node, dockerfile: str) -> None:
    """Take out what .dockerignore says. Blocks; raises BadRequest."""
    text = small_file(root, f"{dockerfile}.dockerignore")
    if text is None:
        text = small_file(root, ".dockerignore")
    ignore = Ignore((text or b"").decode(errors="replace"))
    if dockerfile.startswith(".dockerfile.hyper") and root.children:
        root.children.pop(dockerfile.encode(), None)
    if not ignore:
        return
    stack = [("", root)]
    while stack:
        where, node = stack.pop()
        assert node.children is not None
        for name in list(node.children):
            path = where + name.decode(errors="surrogateescape")
            child = node.children[name]
            ignored = ignore.ignores(path)
            if child.is_directory and (not ignored or ignore.has_exceptions):
                stack.append((f"{path}/", child))
            elif ignored:
                del node.children[name]


def archive_in(node: Node, spool: Path) -> Node | None:
    """The files of a tar archive (plain, gzip, bzip2, xz or zstd), None if it is none. Blocks."""
    file, offset = node.data
    with open(file, "rb") as opened:
        opened.seek(offset)
        start = opened.read(min(_MAGIC_AT + 8, node.size))
    packed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
    if not packed and start[_MAGIC_AT : _MAGIC_AT + 5] != b"ustar":
        return None
    try:
        _unpack(file, spool, offset, node.size)
        with open(spool, "rb") as opened:
            if opened.read(_MAGIC_AT + 8)[_MAGIC_AT : _MAGIC_AT + 5] != b"ustar":
                return None
    except (BadImage, OSError, EOFError, lzma.LZMAError):
        return None
    return context_tree(spool, "the archive")


class _Window:
    """A part of a file, to be read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _unpack(source: Path, target: Path, offset: int, size: int) -> None:
    with open(source, "rb") as file:
        file.seek(offset)
        start = file.read(6)
        file.seek(offset)
        window = _Window(file, size)
        total = 0
        with disk_errors(str(target.parent), _WHAT), open(target, "wb") as out:
            if start.startswith(b"BZh") or start == b"\xfd7zXZ\0":
                other = bz2.BZ2Decompressor if start.startswith(b"BZh") else lzma.LZMADecompressor
                pieces = _other(window, other())
            else:
                pieces = decompress(window, _WHAT)
            for piece in pieces:
                total += len(piece)
                if total > SIZE_LIMIT:
                    raise BadImage(f"{_WHAT} is refused: larger than {SIZE_LIMIT} bytes")
                out.write(piece)


def _other(
    window: _Window, decompressor: "bz2.BZ2Decompressor | lzma.LZMADecompressor"
) -> Iterator[bytes]:
    while not decompressor.eof:
        data = window.read(CHUNK) if decompressor.needs_input else b""
        if not data and decompressor.needs_input:
            raise BadImage(f"{_WHAT} is truncated")
        yield decompressor.decompress(data, CHUNK)
