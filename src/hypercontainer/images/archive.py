"""Loading images from archives: what `docker save` writes, old and new, and OCI layouts.

Formats: Docker's image specification 1.2 ("Combined Image JSON + Filesystem Changeset Format")
with its manifest.json, and the OCI image layout (index.json, blobs/). Nothing is unpacked: layers
are read where they lie in the archive.
"""

import asyncio
import json
import os
import re
import uuid
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import BadRequest, NotFound
from . import blobs, reference
from .archivefile import ArchiveFile, Member
from .compression import CHUNK, decompress, is_compressed
from .content import Content, status
from .download import short
from .failures import BadImage, disk_errors
from .manifest import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    Choice,
    Descriptor,
    Manifest,
    choose,
    digest_of,
    platform_of,
    read_config,
    read_manifest,
    same_platform,
)
from .pull import check_image
from .reference import Reference
from .shared import ProgressFn

SIZE_LIMIT = 256 << 30
_WHAT = "the archive"
_BARE_TAG = re.compile(r"latest|v?[0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Naming:
    """What images of an OCI layout are to be called: NAME:REF, or by reference name."""

    name: str = ""
    refs: Mapping[str, str] = field(default_factory=dict)

    def of(self, ref: str) -> Reference | None:
        """The name for an image with this reference name, None: what the archive says."""
        if ref in self.refs:
            return reference.parse(self.refs[ref])
        if not self.name:
            return None
        if reference.has_tag(self.name):
            return reference.parse(self.name)
        return reference.parse(f"{self.name}:{ref or reference.DEFAULT_TAG}")


@dataclass(frozen=True)
class _Found:
    """An image in an archive."""

    config: bytes
    diff_ids: list[str]
    layers: list[Member]
    names: list[Reference]


async def load(
    content: Content,
    source: Path | BinaryIO | AsyncIterable[bytes],
    platforms: Sequence[str],
    progress: ProgressFn,
    naming: Naming,
) -> list[str]:
    """Take in all images of an archive; their ids.

    Of an image that is there for several platforms, the first of `platforms` is taken.
    Raises BadImage, NotFound (other platforms only), NoSpace.
    """
    spool = content.files.root / "tmp" / f"{uuid.uuid4().hex}.tar"
    try:
        path = await _plain_file(source, spool)
        with await asyncio.to_thread(ArchiveFile, path, _WHAT) as file:
            found = await asyncio.to_thread(lambda: list(_images(file, platforms, naming)))
            if not found:
                raise BadImage(f"{_WHAT} holds no image")
            return [await _take_in(content, file, image, progress) for image in found]
    finally:
        await asyncio.to_thread(spool.unlink, missing_ok=True)


async def _plain_file(source: Path | BinaryIO | AsyncIterable[bytes], spool: Path) -> Path:
    """A file with the plain tar: the source itself, or a copy at `spool`."""
    if isinstance(source, Path):
        return await asyncio.to_thread(_plain_path, source, spool)
    if isinstance(source, AsyncIterable):
        raw = spool.with_suffix(".raw")
        try:
            with disk_errors(str(spool.parent), _WHAT), open(raw, "xb") as file:
                size = 0
                async for chunk in source:
                    size += len(chunk)
                    if size > SIZE_LIMIT:
                        raise BadImage(f"{_WHAT} is refused: larger than {SIZE_LIMIT} bytes")
                    await asyncio.to_thread(file.write, chunk)
            path = await asyncio.to_thread(_plain_path, raw, spool)
            if path == raw:
                await asyncio.to_thread(os.replace, raw, spool)
            return spool
        finally:
            await asyncio.to_thread(raw.unlink, missing_ok=True)
    await asyncio.to_thread(_spool, source, spool)
    return spool


def _plain_path(path: Path, spool: Path) -> Path:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            if not is_compressed(start):
                return path
            file.seek(0)
            _spool(file, spool)
            return spool
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}") from None
    except (PermissionError, IsADirectoryError) as error:
        raise BadRequest(f"can't read {path}: {error.strerror}".lower()) from None


def _spool(source: BinaryIO, spool: Path) -> None:
    size = 0
    with disk_errors(str(spool.parent), _WHAT), open(spool, "xb", buffering=0) as file:
        for chunk in decompress(_Blocking(source), _WHAT):
            size += len(chunk)
            if size > SIZE_LIMIT:
                raise BadImage(f"{_WHAT} is refused: larger than {SIZE_LIMIT} bytes")
            file.write(chunk)


class _Blocking:
    """Reads whole chunks from pipes and sockets, which give what they have."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def read(self, size: int = CHUNK, /) -> bytes:
        data = b""
        while len(data) < size and (more := self._source.read(size - len(data))):
            data += more
        return data


async def _take_in(content: Content, file: ArchiveFile, image: _Found, progress: ProgressFn) -> str:
    content.pin(image.diff_ids)
    try:
        for diff_id, member in zip(image.diff_ids, image.layers, strict=True):
            if diff_id in content.files.layers:
                progress(status("Already exists", short(diff_id)))
                continue
            await _add_layer(content, file, diff_id, member, progress)
            progress(status("Load complete", short(diff_id)))
        image_id, _ = await asyncio.to_thread(
            content.commit, image.config, image.diff_ids, image.names
        )
    except BaseException:
        content.unpin(image.diff_ids)
        await asyncio.to_thread(content.drop_unused, image.diff_ids)
        raise
    content.unpin(image.diff_ids)
    shown = [f"Loaded image: {name}\n" for name in image.names]
    for line in shown or [f"Loaded image ID: {image_id}\n"]:
        progress({"stream": line})
    return image_id


async def _add_layer(
    content: Content, file: ArchiveFile, diff_id: str, member: Member, progress: ProgressFn
) -> None:
    path = content.files.root / "tmp" / f"{uuid.uuid4().hex}.layer"
    try:
        blob = await asyncio.to_thread(
            blobs.keep, file.open(member), path, f"layer {short(diff_id)}"
        )
        await content.add_layer(blob, diff_id, member.size, progress, short(diff_id))
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


def _images(file: ArchiveFile, platforms: Sequence[str], naming: Naming) -> Iterator[_Found]:
    chosen = bool(naming.name or naming.refs)
    if file.has("manifest.json") and not (chosen and file.has("index.json")):
        if chosen:
            raise BadRequest("names and references are for OCI layouts: this is Docker's archive")
        return _docker_images(file, platforms)
    if file.has("index.json"):
        return _oci_images(file, platforms, naming)
    raise BadImage(f"{_WHAT} is not an image archive: it has neither manifest.json nor index.json")


def _docker_images(file: ArchiveFile, platforms: Sequence[str]) -> Iterator[_Found]:
    items = _json(file, "manifest.json", list)
    for item in items:
        try:
            config_name, layer_names = str(item["Config"]), [str(n) for n in item["Layers"] or []]
            tags = [str(tag) for tag in item.get("RepoTags") or []]
        except (KeyError, TypeError, AttributeError):
            raise BadImage(f"{_WHAT} is damaged: bad manifest.json") from None
        config = file.read(config_name, CONFIG_LIMIT)
        members = [file.member(name) for name in layer_names]
        names = [reference.parse(tag) for tag in tags]
        yield _found(config, members, names, platforms)


def _oci_images(file: ArchiveFile, platforms: Sequence[str], naming: Naming) -> Iterator[_Found]:
    index = _json(file, "index.json", dict)
    manifests = index.get("manifests")
    if not isinstance(manifests, list):
        raise BadImage(f"{_WHAT} is damaged: bad index.json")
    listed = read_manifest(json.dumps({**index, "mediaType": ""}).encode(), _WHAT)
    assert isinstance(listed, list)
    if len(listed) > 1 and not any(_annotated_name(item) for item in manifests):
        wanted = _choose(listed, platforms).digest
        manifests = [item for item in manifests if item["digest"] == wanted]
    said = {choice.descriptor.digest: choice.platform for choice in listed}
    for item in manifests:
        digest = item["digest"]
        if _is_attestation(item, said[digest]):
            continue
        manifest = read_manifest(_blob(file, digest, MANIFEST_LIMIT), _WHAT)
        if not isinstance(manifest, Manifest):
            chosen = _choose(manifest, platforms).digest
            manifest = read_manifest(_blob(file, chosen, MANIFEST_LIMIT), _WHAT)
        if not isinstance(manifest, Manifest):
            raise BadImage(f"{_WHAT} is refused: a manifest list within a manifest list")
        config = _blob(file, manifest.config.digest, CONFIG_LIMIT)
        members = [file.member(_blob_name(layer.digest)) for layer in manifest.layers]
        name = naming.of(_ref(item)) or _annotated_name(item)
        yield _found(config, members, [name] if name else [], platforms)


def _choose(choices: list[Choice], platforms: Sequence[str]) -> Descriptor:
    for platform in platforms:
        if any(same_platform(choice.platform, platform) for choice in choices):
            return choose(choices, platform, _WHAT)
    return choose(choices, platforms[0], _WHAT)


def _found(
    config: bytes, members: list[Member], names: list[Reference], platforms: Sequence[str]
) -> _Found:
    what = str(names[0]) if names else _WHAT
    document, diff_ids = read_config(config, what)
    offered = platform_of(document)
    platform = next((p for p in platforms if same_platform(offered, p)), platforms[0])
    check_image(document, diff_ids, len(members), platform, what)
    return _Found(config, diff_ids, members, [name for name in names if name.tag])


def _ref(item: dict[str, Any]) -> str:
    annotations = item.get("annotations")
    if not isinstance(annotations, dict):
        return ""
    found = annotations.get("org.opencontainers.image.ref.name")
    return found if isinstance(found, str) else ""


def _annotated_name(item: dict[str, Any]) -> Reference | None:
    """The name that containerd's annotation gives, or the layout's own if it is more than a tag."""
    annotations = item.get("annotations")
    if not isinstance(annotations, dict):
        return None
    name = annotations.get("io.containerd.image.name")
    if not isinstance(name, str):
        name = annotations.get("org.opencontainers.image.ref.name")
        if not isinstance(name, str) or _BARE_TAG.fullmatch(name):
            return None
    try:
        return reference.parse(name)
    except BadRequest:
        return None


def _is_attestation(item: dict[str, Any], platform: str) -> bool:
    """Whether a manifest only speaks of another, as builders add them (BuildKit's attestations)."""
    annotations = item.get("annotations")
    kind = "vnd.docker.reference.type"
    return platform == "unknown/unknown" and isinstance(annotations, dict) and kind in annotations


def _blob_name(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    return f"blobs/{algorithm}/{digits}"


def _blob(file: ArchiveFile, digest: str, limit: int) -> bytes:
    data = file.read(_blob_name(digest), limit)
    if digest_of(data) != digest:
        raise BadImage(f"{_WHAT} is damaged: blob {short(digest)} does not match its digest")
    return data


def _json(file: ArchiveFile, name: str, kind: type) -> Any:
    try:
        data = json.loads(file.read(name, MANIFEST_LIMIT))
    except (ValueError, RecursionError):
        raise BadImage(f"{_WHAT} is damaged: {name} is not JSON") from None
    if not isinstance(data, kind):
        raise BadImage(f"{_WHAT} is damaged: bad {name}")
    return data
