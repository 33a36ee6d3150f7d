"""Writing images as archives: Docker's form, and OCI image layouts.

Formats: as in `archive`. Layers are plain in Docker's form, as registries have them in a layout.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .blobs import Blob, plain
from .compression import CHUNK
from .download import short
from .failures import BadImage
from .manifest import OCI_INDEX, digest_of
from .push import manifest_of
from .reference import Reference
from .tarstream import BLOCK, DIRECTORY, FILE, Entry
from .tarwrite import header


@dataclass(frozen=True)
class Saved:
    """An image to save: its layers bottom first with the bytes of their plain tars."""

    config: bytes
    diff_ids: tuple[str, ...]
    tar_sizes: tuple[int, ...]
    blobs: tuple[Blob, ...]
    names: tuple[Reference, ...]


def docker_archive(images: Iterable[Saved]) -> Iterator[bytes]:
    """What `docker load` reads, piece by piece. Blocks; raises BadImage for damaged blobs."""
    items: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    written: set[str] = set()
    for image in images:
        config_name = f"{digest_of(image.config).partition(':')[2]}.json"
        paths = [f"{diff_id.partition(':')[2]}/layer.tar" for diff_id in image.diff_ids]
        for diff_id, path, size, blob in zip(
            image.diff_ids, paths, image.tar_sizes, image.blobs, strict=True
        ):
            if path not in written:
                written.add(path)
                yield _head(f"{path.partition('/')[0]}", 0, DIRECTORY)
                yield from _member(path, size, plain(blob.path, f"layer {short(diff_id)}"))
        if config_name not in written:
            written.add(config_name)
            yield from _file(config_name, image.config)
        tags = [str(name) for name in image.names]
        items.append({"Config": config_name, "RepoTags": tags or None, "Layers": paths})
        for name in image.names:
            top = paths[-1].partition("/")[0] if paths else ""
            repositories.setdefault(name.familiar_name, {})[name.tag or ""] = top
    yield from _file("manifest.json", _json(items))
    if repositories:
        yield from _file("repositories", _json(repositories))
    yield bytes(2 * BLOCK)


def oci_archive(images: Iterable[Saved], refs: Mapping[str, str]) -> Iterator[bytes]:
    """An OCI image layout as a tar, piece by piece; `refs` are reference names by image name.

    Blocks; raises BadImage for damaged blobs.
    """
    yield from _file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    yield _head("blobs", 0, DIRECTORY)
    yield _head("blobs/sha256", 0, DIRECTORY)
    written: set[str] = set()
    listed: list[dict[str, Any]] = []
    for image in images:
        media_type, manifest = manifest_of(image.config, list(image.blobs), oci=True)
        for blob in image.blobs:
            if blob.digest not in written:
                written.add(blob.digest)
                yield from _member(_path(blob.digest), blob.size, _pieces(blob))
        for data in (image.config, manifest):
            if digest_of(data) not in written:
                written.add(digest_of(data))
                yield from _file(_path(digest_of(data)), data)
        descriptor = {
            "mediaType": media_type,
            "digest": digest_of(manifest),
            "size": len(manifest),
        }
        listed.extend({**descriptor, **_annotations(name, refs)} for name in image.names)
        if not image.names:
            listed.append(descriptor)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    yield from _file("index.json", _json(index))
    yield bytes(2 * BLOCK)


def _annotations(name: Reference, refs: Mapping[str, str]) -> dict[str, Any]:
    ref = refs.get(str(name)) or refs.get(name.canonical) or name.tag
    return {
        "annotations": {
            "io.containerd.image.name": name.canonical,
            "org.opencontainers.image.ref.name": ref,
        }
    }


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.partition(':')[2]}"


def _pieces(blob: Blob) -> Iterator[bytes]:
    with open(blob.path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            yield data


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _head(name: str, size: int, kind: bytes = FILE) -> bytes:
    mode = 0o755 if kind == DIRECTORY else 0o644
    return header(Entry(b"", kind, mode, 0, 0, size, 0, b"", 0, 0, {}), name.encode())


def _file(name: str, data: bytes) -> Iterator[bytes]:
    return _member(name, len(data), iter([data]))


def _member(name: str, size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield _head(name, size)
    left = size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise BadImage(f"{name} can't be saved: what is kept of it is damaged")
    if padding := -size % BLOCK:
        yield bytes(padding)
