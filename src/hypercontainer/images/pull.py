"""Pulling an image: manifest, configuration, then all layers at once."""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HyperError, NotFound, Timeout
from .auth import Auth, from_config
from .blobs import blob_at
from .content import Content, status
from .contentfiles import link_content
from .download import fetch, short
from .failures import AccessDenied, BadImage, RegistryError, no_space, readable_size
from .hosts import Endpoint, Hosts
from .manifest import (
    CONFIG_LIMIT,
    Descriptor,
    Manifest,
    choose,
    digest_of,
    no_platform,
    platform_of,
    read_config,
    read_manifest,
    same_platform,
)
from .reference import Reference
from .registry import Registry
from .shared import ProgressFn, SharedWork, all_of

PARALLEL_DOWNLOADS = 3


@dataclass(frozen=True)
class _Wanted:
    """What an image's manifest and configuration ask for."""

    config: bytes
    diff_ids: tuple[str, ...]
    blobs: tuple[Descriptor, ...]


class Puller:
    """Pulls into one store."""

    def __init__(self, content: Content, hosts: Hosts, platform: str) -> None:
        self._content = content
        self._hosts = hosts
        self._platform = platform
        self._downloads = asyncio.Semaphore(PARALLEL_DOWNLOADS)
        self._layers: SharedWork[None] = SharedWork()

    async def pull(
        self, reference: Reference, auth: Auth | None, progress: ProgressFn, platform: str = ""
    ) -> tuple[str, bool]:
        """Bring an image here; its id, and whether it was new.

        `platform` is the one that is wanted, "" for the usual one. Raises NotFound, AccessDenied,
        RegistryError, BadImage, NoSpace, Timeout.
        """
        platform = platform or self._platform
        shown = reference.tag or reference.digest or ""
        progress({"status": f"Pulling from {reference.path}", "id": shown})
        if auth is None:
            auth = await from_config(reference.host)
        endpoints = self._hosts.endpoints(reference.host)
        for endpoint in endpoints[:-1]:
            try:
                own = await from_config(endpoint.address)
                return await self._pull_from(endpoint, reference, own, progress, platform)
            except (NotFound, RegistryError, AccessDenied, Timeout) as error:
                progress({"status": f"mirror skipped: {error.message}"})
        return await self._pull_from(endpoints[-1], reference, auth, progress, platform)

    async def _pull_from(
        self,
        endpoint: Endpoint,
        reference: Reference,
        auth: Auth | None,
        progress: ProgressFn,
        platform: str,
    ) -> tuple[str, bool]:
        async with Registry(endpoint, self._hosts, reference, auth) as registry:
            digest, manifest = await self._find_manifest(registry, reference, platform)
            wanted = await self._read_image(registry, manifest, reference, platform)
            self._content.pin(wanted.diff_ids)
            try:
                await self._fetch_layers(registry, wanted, reference, progress)
                names = [reference.with_digest(digest)]
                if reference.tag:
                    names.append(Reference(reference.host, reference.path, reference.tag, None))
                done = await asyncio.to_thread(
                    self._content.commit, wanted.config, wanted.diff_ids, names
                )
            except BaseException as error:
                self._content.unpin(wanted.diff_ids)
                await self._clean_up(error, wanted)
                raise
            self._content.unpin(wanted.diff_ids)
            for blob in wanted.blobs:
                await asyncio.to_thread(self._content.files.drop_blob, blob.digest)
            progress({"status": f"Digest: {digest}"})
            return done

    async def _clean_up(self, error: BaseException, wanted: _Wanted) -> None:
        """Keep what a later try can go on from; after errors of the image itself, keep nothing."""
        if isinstance(error, RegistryError | Timeout | asyncio.CancelledError):
            return
        for blob, diff_id in zip(wanted.blobs, wanted.diff_ids, strict=True):
            if not self._layers.is_running(diff_id):
                await asyncio.to_thread(self._content.files.drop_blob, blob.digest)
        await asyncio.to_thread(self._content.drop_unused, wanted.diff_ids)

    async def _find_manifest(
        self, registry: Registry, reference: Reference, platform: str
    ) -> tuple[str, Manifest]:
        """The digest that the name means, and the manifest for the platform."""
        what = str(reference)
        data = await registry.manifest(reference.target)
        digest = digest_of(data)
        if reference.digest and reference.digest != digest:
            raise BadImage(
                f"{what} does not match its digest: registry {registry.name} sent {digest}"
            )
        found = read_manifest(data, what)
        if isinstance(found, Manifest):
            return digest, found
        chosen = choose(found, platform, what)
        data = await registry.manifest(chosen.digest)
        if digest_of(data) != chosen.digest:
            raise BadImage(f"{what} does not match its digest: its manifest for {platform}")
        manifest = read_manifest(data, what)
        if not isinstance(manifest, Manifest):
            raise BadImage(f"{what} is refused: a manifest list within a manifest list")
        return digest, manifest

    async def _read_image(
        self, registry: Registry, manifest: Manifest, reference: Reference, platform: str
    ) -> _Wanted:
        what = str(reference)
        if manifest.config.size > CONFIG_LIMIT:
            raise BadImage(f"{what} is refused: its configuration is {manifest.config.size} bytes")
        path = await self._path_of(manifest.config)
        await fetch(registry, manifest.config, path, _silent, f"the configuration of {what}")
        data = await asyncio.to_thread(path.read_bytes)
        await asyncio.to_thread(path.unlink)
        config, diff_ids = read_config(data, what)
        check_image(config, diff_ids, len(manifest.layers), platform, what)
        return _Wanted(data, tuple(diff_ids), manifest.layers)

    async def _fetch_layers(
        self, registry: Registry, wanted: _Wanted, reference: Reference, progress: ProgressFn
    ) -> None:
        files = self._content.files
        layers = dict(zip(wanted.diff_ids, wanted.blobs, strict=True))
        missing = {k: blob for k, blob in layers.items() if k not in files.layers}
        for diff_id, blob in layers.items():
            text = "Pulling fs layer" if diff_id in missing else "Already exists"
            progress(status(text, short(blob.digest)))
        await asyncio.to_thread(self._check_space, str(reference), list(missing.values()))

        async def bring(diff_id: str, blob: Descriptor) -> None:
            def work(tell: ProgressFn) -> Coroutine[Any, Any, None]:
                return self._layer(registry, diff_id, blob, tell)

            others = self._layers.is_running(diff_id)
            try:
                await self._layers.run(diff_id, work, progress)
            except HyperError:
                if not others:
                    raise
                await self._layers.run(diff_id, work, progress)  # the other pull's own trouble

        await all_of(*(bring(diff_id, blob) for diff_id, blob in missing.items()))

    def _check_space(self, what: str, blobs: list[Descriptor]) -> None:
        files = self._content.files
        need = sum(blob.size for blob in blobs if not files.blob_path(blob.digest).exists())
        free = os.statvfs(files.root)
        if need > free.f_bavail * free.f_frsize:
            have = readable_size(free.f_bavail * free.f_frsize)
            text = f"{what} needs more than {readable_size(need)}, {have} are free"
            raise no_space(str(files.root), text)

    async def _path_of(self, blob: Descriptor) -> Path:
        """Where a blob goes; it is there already if a client of containerd brought it."""
        path = self._content.files.blob_path(blob.digest)
        if not path.exists():
            await asyncio.to_thread(link_content, self._content.files.root, blob.digest, path)
        return path

    async def _layer(
        self, registry: Registry, diff_id: str, blob: Descriptor, progress: ProgressFn
    ) -> None:
        files = self._content.files
        if diff_id in files.layers:
            return
        shown = short(blob.digest)
        path = await self._path_of(blob)
        async with self._downloads:
            await fetch(registry, blob, path, progress, f"layer {shown}")
        progress(status("Download complete", shown))
        try:
            kept = await asyncio.to_thread(blob_at, path, blob.digest)
            await self._content.add_layer(kept, diff_id, blob.size, progress, shown)
        except asyncio.CancelledError:
            raise
        except HyperError:
            await asyncio.to_thread(files.drop_blob, blob.digest)
            raise
        progress(status("Pull complete", shown))


def check_image(
    config: dict[str, Any], diff_ids: list[str], layers: int, platform: str, what: str
) -> None:
    """Refuse an image for another platform, or with a wrong count of layers."""
    offered = platform_of(config)
    if offered and not same_platform(offered, platform):
        raise no_platform(platform, what, offered)
    if len(diff_ids) != layers:
        raise BadImage(
            f"{what} is damaged: its manifest has {layers} layers,"
            f" its configuration {len(diff_ids)}"
        )


def _silent(_: dict[str, Any]) -> None:
    pass
