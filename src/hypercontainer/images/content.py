"""Adding content to the store's files: layers from blobs, images from layers."""

import asyncio
import os
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from .blobs import Blob
from .download import short
from .manifest import digest_of
from .records import Files, ImageRecord, Index, LayerRecord
from .reference import Reference
from .shared import ProgressFn, in_thread
from .squash import Conversion, Converted


class Content:
    """The store's files with what is under way in this process."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._pins: Counter[str] = Counter()
        self._change = threading.Lock()
        self._conversions = asyncio.Semaphore(max(os.cpu_count() or 1, 1))

    def pin(self, diff_ids: Sequence[str]) -> None:
        """Keep these layers from removal until `unpin`."""
        self._pins.update(diff_ids)

    def unpin(self, diff_ids: Sequence[str]) -> None:
        """End what `pin` began."""
        self._pins.subtract(diff_ids)

    async def add_layer(
        self, blob: Blob, diff_id: str, total: int, progress: ProgressFn, shown: str
    ) -> None:
        """Convert a layer and keep its blob, whose file is moved.

        `total` and `shown` are the bytes and the id for its progress. Raises what
        `Conversion.run` does; the blob's file is where it was then.
        """
        files = self.files
        target = files.root / "tmp" / f"{uuid.uuid4().hex}.sqfs"
        loop = asyncio.get_running_loop()
        told = 0.0

        def report(done: int) -> None:
            nonlocal told
            now = loop.time()
            if now - told < 0.1:
                return
            told = now
            detail = {"current": done, "total": max(total, done)}
            message = {"status": "Extracting", "id": shown, "progressDetail": detail}
            loop.call_soon_threadsafe(progress, message)

        async with self._conversions:
            what = f"layer {short(diff_id)}"
            conversion = Conversion(
                partial(_open, blob.path),
                target,
                what,
                diff_id,
                progress=report,
                lock=files.lock,
            )

            def convert() -> Converted:
                made = conversion.run()
                facts = made.facts
                record = LayerRecord(
                    made.tar_size,
                    made.size,
                    facts.entries,
                    facts.opaque_root,
                    blob.digest,
                    blob.size,
                    blob.compression,
                )
                files.add_layer(diff_id, target, blob.path, record)
                return made

            await in_thread(convert, conversion.cancel)

    def commit(
        self,
        config: bytes,
        diff_ids: Sequence[str],
        names: Sequence[Reference],
        step: str = "",
    ) -> tuple[str, bool]:
        """Record an image whose layers are all there; blocks. Its id, and whether it is new.

        `step` is the key by which a build finds it again. A name with a tag becomes a tag of
        the image, one with a digest a name by digest.
        """
        image_id = digest_of(config)
        with self._change:
            index = self.files.index
            old = index.images.get(image_id)
            self.files.add_config(image_id, config)
            digests = dict.fromkeys(old.digests if old else ())
            digests.update((n.canonical, None) for n in names if n.digest and not n.tag)
            step = step or (old.step if old else "")
            record = ImageRecord(tuple(diff_ids), tuple(digests), step)
            tags = {n.canonical: image_id for n in names if n.tag}
            self.files.save(Index({**index.images, image_id: record}, {**index.tags, **tags}))
        return image_id, old is None

    def untag(self, tags: Sequence[str], digests: Sequence[str], image_id: str) -> None:
        """Take names from an image; blocks."""
        with self._change:
            index = self.files.index
            record = index.images[image_id]
            kept = tuple(d for d in record.digests if d not in digests)
            self.files.save(
                Index(
                    {**index.images, image_id: replace(record, digests=kept)},
                    {tag: value for tag, value in index.tags.items() if tag not in tags},
                )
            )

    def add_digest(self, image_id: str, name: str) -> None:
        """Note a name by digest of an image that is there still; blocks."""
        with self._change:
            index = self.files.index
            record = index.images.get(image_id)
            if record is None or name in record.digests:
                return
            new = replace(record, digests=(*record.digests, name))
            self.files.save(Index({**index.images, image_id: new}, index.tags))

    def drop(self, image_id: str) -> list[str]:
        """Remove an image and the layers that nothing else uses; blocks. The layers' ids."""
        with self._change:
            index = self.files.index
            images = {key: value for key, value in index.images.items() if key != image_id}
            tags = {tag: value for tag, value in index.tags.items() if value != image_id}
            gone = index.images[image_id].layers
            self.files.save(Index(images, tags))
            self.files.remove_config(image_id)
            return self._remove_unused(gone)

    def drop_unused(self, diff_ids: Sequence[str]) -> None:
        """Remove those of the layers that no image and no pull uses; blocks."""
        with self._change:
            self._remove_unused(diff_ids)

    def _remove_unused(self, diff_ids: Sequence[str]) -> list[str]:
        used = {layer for record in self.files.index.images.values() for layer in record.layers}
        removed = []
        for diff_id in dict.fromkeys(diff_ids):
            if diff_id in used or self._pins[diff_id] > 0:
                continue
            if diff_id in self.files.layers:
                self.files.remove_layer(diff_id)
                removed.append(diff_id)
        return removed


def _open(path: Path) -> BinaryIO:
    return open(path, "rb", buffering=0)


def status(text: str, shown: str = "", **detail: Any) -> dict[str, Any]:
    """A progress message in Docker's form."""
    message: dict[str, Any] = {"status": text}
    if shown:
        message["id"] = shown
        message["progressDetail"] = detail
    return message
