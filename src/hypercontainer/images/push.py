"""Pushing an image: the blobs that the registry lacks, the configuration, the manifest."""

import asyncio
import json
from typing import Any

from ..errors import Conflict, HyperError
from . import upload
from .auth import Auth, from_config
from .blobs import Blob
from .content import Content, status
from .download import short
from .hosts import Hosts
from .manifest import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    digest_of,
)
from .reference import Reference
from .registry import Registry
from .shared import ProgressFn, all_of

PARALLEL_UPLOADS = 3
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def blobs_of(content: Content, image_id: str, name: str) -> list[Blob]:
    """The blobs of an image's layers, bottom first. Raises Conflict if some are not kept."""
    found = []
    for diff_id in content.files.index.images[image_id].layers:
        record = content.files.layers[diff_id]
        path = content.files.tar_path(diff_id)
        if not record.blob or not path.exists():
            raise Conflict(
                f"{name} can't be sent: the archive of its layer {short(diff_id)} was not kept:"
                " remove the image, then pull, load or build it again"
            )
        found.append(Blob(path, record.blob, record.blob_size, record.compression))
    return found


def manifest_of(config: bytes, blobs: list[Blob], *, oci: bool = False) -> tuple[str, bytes]:
    """A manifest and its media type: Docker's if `oci` is not set and all layers are gzip."""
    oci = oci or any(blob.compression != "gzip" for blob in blobs)
    media_type, config_type = (
        (OCI_MANIFEST, OCI_CONFIG) if oci else (DOCKER_MANIFEST, DOCKER_CONFIG)
    )
    layers = [
        {
            "mediaType": f"{OCI_LAYER}{'+' if b.compression else ''}{b.compression}"
            if oci
            else _DOCKER_LAYER,
            "size": b.size,
            "digest": b.digest,
        }
        for b in blobs
    ]
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": config_type,
            "size": len(config),
            "digest": digest_of(config),
        },
        "layers": layers,
    }
    return media_type, json.dumps(document, separators=(",", ":")).encode()


class Pusher:
    """Pushes from one store."""

    def __init__(self, content: Content, hosts: Hosts) -> None:
        self._content = content
        self._hosts = hosts

    async def push(
        self, reference: Reference, image_id: str, auth: Auth | None, progress: ProgressFn
    ) -> str:
        """Send an image to its registry under a tag; the manifest's digest.

        Raises AccessDenied, RegistryError, Conflict (no blobs kept), Timeout.
        """
        progress({"status": f"The push refers to repository [{reference.name}]"})
        layers = self._content.files.index.images[image_id].layers
        blobs = blobs_of(self._content, image_id, str(reference))
        config = await asyncio.to_thread(self._content.files.read_config, image_id)
        if auth is None:
            auth = await from_config(reference.host)
        endpoint = self._hosts.endpoints(reference.host)[-1]  # a mirror takes no pushes
        self._content.pin(layers)
        try:
            async with Registry(
                endpoint, self._hosts, reference, auth, actions="pull,push"
            ) as registry:
                return await self._send(registry, reference, layers, blobs, config, progress)
        finally:
            self._content.unpin(layers)
            await asyncio.to_thread(self._content.drop_unused, layers)

    async def _send(
        self,
        registry: Registry,
        reference: Reference,
        layers: tuple[str, ...],
        blobs: list[Blob],
        config: bytes,
        progress: ProgressFn,
    ) -> str:
        by_digest = {b.digest: (d, b) for d, b in zip(layers, blobs, strict=True)}
        for diff_id, _ in by_digest.values():
            progress(status("Preparing", short(diff_id)))
        limit = asyncio.Semaphore(PARALLEL_UPLOADS)

        async def layer(diff_id: str, blob: Blob) -> None:
            async with limit:
                await _send_layer(registry, diff_id, blob, progress)

        await all_of(*(layer(diff_id, blob) for diff_id, blob in by_digest.values()))
        what = f"the configuration of {reference}"
        if not await upload.has_blob(registry, digest_of(config), what):
            await upload.put_bytes(registry, digest_of(config), config, what)
        media_type, manifest = manifest_of(config, blobs)
        digest = digest_of(manifest)
        tag = reference.tag or "latest"
        await upload.put_manifest(registry, tag, media_type, manifest, str(reference))
        progress({"status": f"{tag}: digest: {digest} size: {len(manifest)}"})
        aux = {"Tag": tag, "Digest": digest, "Size": len(manifest)}
        progress({"progressDetail": {}, "aux": aux})
        return digest


async def _send_layer(registry: Registry, diff_id: str, blob: Blob, progress: ProgressFn) -> None:
    shown = short(diff_id)
    what = f"layer {shown}"
    if await upload.has_blob(registry, blob.digest, what):
        progress(status("Layer already exists", shown))
        return

    def told(done: int) -> None:
        progress(status("Pushing", shown, current=done, total=blob.size))

    try:
        await upload.put_file(registry, blob, what, told)
    except FileNotFoundError as error:
        raise HyperError(f"{what} is gone: its image was removed meanwhile") from error
    progress(status("Pushed", shown))
