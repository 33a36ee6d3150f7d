"""Images made here: of an image's layers, one more layer, and a configuration."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .blobs import BlobWriter, NewLayer
from .compression import CHUNK, decompress
from .content import Content
from .download import short
from .failures import BadImage, disk_errors
from .reference import Reference

LayerTar = AsyncIterable[bytes] | Iterable[bytes]
ARCHIVE_LIMIT = 256 << 30
_WHAT = "the new layer"


@dataclass(frozen=True)
class Packed:
    """A layer's tar that may be compressed, as people give it."""

    data: AsyncIterable[bytes]


async def make(
    content: Content,
    config: dict[str, Any],
    below: Sequence[str],
    layer: LayerTar | Packed | None,
    names: Sequence[Reference],
    step: str,
) -> str:
    """Record an image of the layers `below` and one more; its id.

    The last entry of the configuration's history is the layer's. `step` is a key by
    which a build finds it again. Raises BadImage, NoSpace.
    """
    root = content.files.root
    path = root / "tmp" / f"{uuid.uuid4().hex}.layer"
    content.pin(below)
    pinned = list(below)
    try:
        diff_ids, empty = list(below), True
        if layer is not None:
            new = await _written(layer, path)
            empty = await asyncio.to_thread(_is_empty, path, new)
            if not empty:
                content.pin([new.diff_id])
                pinned.append(new.diff_id)
                diff_ids.append(new.diff_id)
                await _add(content, new)
        document = {**config, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        history = [dict(entry) for entry in config.get("history") or []]
        if history and layer is not None and empty:
            history[-1]["empty_layer"] = True
        document["history"] = history
        data = json.dumps(document, separators=(",", ":")).encode()
        image_id, _ = await asyncio.to_thread(content.commit, data, diff_ids, names, step)
        return image_id
    finally:
        content.unpin(pinned)
        await asyncio.to_thread(path.unlink, missing_ok=True)
        await asyncio.to_thread(content.drop_unused, pinned)


async def _add(content: Content, new: NewLayer) -> None:
    if new.diff_id in content.files.layers:
        return

    def silent(_: dict[str, Any]) -> None:
        pass

    shown = short(new.diff_id)
    await content.add_layer(new.blob, new.diff_id, new.blob.size, silent, shown)


async def _written(layer: LayerTar | Packed, path: Path) -> NewLayer:
    """The layer in a blob's form at `path`."""
    if isinstance(layer, Packed):
        raw = path.with_suffix(".raw")
        try:
            await _spool(layer.data, raw)
            return await asyncio.to_thread(_repack, raw, path)
        finally:
            await asyncio.to_thread(raw.unlink, missing_ok=True)
    if isinstance(layer, AsyncIterable):
        writer = await asyncio.to_thread(BlobWriter, path, _WHAT)
        try:
            pending = bytearray()
            async for piece in layer:
                pending += piece
                if len(pending) >= CHUNK:
                    await asyncio.to_thread(writer.write, bytes(pending))
                    pending.clear()
            await asyncio.to_thread(writer.write, bytes(pending))
            return await asyncio.to_thread(writer.finish)
        except BaseException:
            writer.abort()
            raise
    return await asyncio.to_thread(_write_all, layer, path)


def _write_all(pieces: Iterable[bytes], path: Path) -> NewLayer:
    writer = BlobWriter(path, _WHAT)
    try:
        for piece in pieces:
            writer.write(piece)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


async def _spool(data: AsyncIterable[bytes], raw: Path) -> None:
    size = 0
    with disk_errors(str(raw.parent), "the archive"), open(raw, "xb", buffering=0) as file:
        async for piece in data:
            size += len(piece)
            if size > ARCHIVE_LIMIT:
                raise BadImage(f"the archive is refused: larger than {ARCHIVE_LIMIT} bytes")
            await asyncio.to_thread(file.write, piece)


def _repack(raw: Path, path: Path) -> NewLayer:
    with open(raw, "rb", buffering=0) as file:
        return _write_all(decompress(file, "the archive"), path)


def _is_empty(path: Path, layer: NewLayer) -> bool:
    """Whether a layer holds nothing: an archive of zeros only."""
    if layer.tar_size > 1 << 20:
        return False
    with open(path, "rb") as file:
        return not any(any(piece) for piece in decompress(file, _WHAT))
