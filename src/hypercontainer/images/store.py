"""The image store: what the rest of hyper uses of this package."""

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterable, Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import BadRequest, Conflict, NotFound
from ..guest import platforms
from . import archive, login, making, pruning, reference
from .auth import Auth
from .content import Content
from .hosts import CERTIFICATES, Hosts
from .making import LayerTar, Packed
from .model import Image, Layer
from .pull import Puller
from .push import Pusher, blobs_of
from .records import Files
from .reference import Reference, has_tag
from .save import Saved, docker_archive, oci_archive
from .shared import ProgressFn, SharedWork
from .squash import FSTYPE
from .upper import make_upper

_Removed = list[dict[str, str]]
_Layers = list[Layer]


class ImageStore:
    """Images below one folder, owned by this process. Use it from one event loop.

    `mirrors` stand in for docker.io; `insecure` lists registries (host, host:port, or a network in
    CIDR form) that may be used without TLS or with a certificate nobody vouches for.
    """

    def __init__(
        self,
        root: Path,
        *,
        mirrors: Sequence[str] = (),
        insecure: Sequence[str] = (),
        platform: str = "linux/amd64",
        certificates: Sequence[Path] = CERTIFICATES,
    ) -> None:
        """Opens the store; raises Conflict if another process has it open."""
        self._files = Files(root)
        self._content = Content(self._files)
        hosts = self._hosts = Hosts(tuple(mirrors), tuple(insecure), tuple(certificates))
        self._platform = platform
        self._puller = Puller(self._content, hosts, platform)
        self._pusher = Pusher(self._content, hosts)
        self._pulls: SharedWork[str] = SharedWork()
        self._configs: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        """Let another process open the store."""
        self._files.close()

    async def pull(
        self,
        ref: str,
        *,
        auth: Auth | None = None,
        progress: ProgressFn | None = None,
        platform: str = "",
    ) -> Image:
        """Bring an image from its registry; pulls of one image at the same time are one.

        The name then means the image for `platform` ("": the store's), whichever it was before.
        Raises BadRequest (name), NotSupported (a platform that no VM is of), NotFound,
        AccessDenied, RegistryError, BadImage, NoSpace.
        """
        name = reference.parse(ref)
        platform = platforms.normal(platform) or self._platform

        async def work(tell: ProgressFn) -> str:
            image_id, new = await self._puller.pull(name, auth, tell, platform)
            verb = "Downloaded newer image" if new else "Image is up to date"
            tell({"status": f"Status: {verb} for {name}"})
            return image_id

        return self._image(await self._pulls.run((name.canonical, auth, platform), work, progress))

    async def load(
        self,
        source: Path | BinaryIO | AsyncIterable[bytes],
        progress: ProgressFn | None = None,
        *,
        name: str = "",
        refs: Mapping[str, str] | None = None,
    ) -> list[Image]:
        """Take in the images of a `docker save` or OCI archive, plain, gzip or zstd.

        Of an OCI layout, an image with reference name R is called NAME:R with `name`, and as
        `refs` has it for R.

        Of an image for several platforms, the store's is taken, else another that VMs can be of.
        Raises BadImage, NotFound (other platforms only), NoSpace.
        """
        tell = progress or (lambda _: None)
        known = [about.platform for about in platforms.ARCHITECTURES.values()]
        wanted = list(dict.fromkeys([self._platform, *known]))
        loaded = await archive.load(
            self._content, source, wanted, tell, archive.Naming(name, refs or {})
        )
        return [self._image(image_id) for image_id in loaded]

    async def push(
        self, ref: str, *, auth: Auth | None = None, progress: ProgressFn | None = None
    ) -> str:
        """Send an image to the registry that its name says; the digest it has there.

        Raises BadRequest (name), NotFound, AccessDenied, RegistryError, Conflict, Timeout.
        """
        name = reference.parse(ref)
        if name.tag is None or name.digest:
            raise BadRequest(f"can't push {ref}: give a tag, not a digest")
        image_id = self._by_name(name)
        if image_id is None:
            raise NotFound(f"no such image: {ref}: `hyper tag IMAGE {ref}` names one so")
        digest = await self._pusher.push(name, image_id, auth, progress or (lambda _: None))
        by_digest = name.with_digest(digest)
        await asyncio.to_thread(self._content.add_digest, image_id, by_digest.canonical)
        return digest

    async def log_in(self, server: str, auth: Auth) -> None:
        """Check credentials at a registry. Raises BadRequest, AccessDenied, RegistryError."""
        await login.check(self._hosts, login.host_of(server), auth)

    def tags_of(self, repository: str) -> list[str]:
        """All names with a tag of a repository, sorted. Raises BadRequest."""
        name = reference.parse(repository).name
        found = (reference.parse(tag) for tag in self._files.index.tags)
        return sorted(str(tag) for tag in found if tag.name == name)

    @contextmanager
    def saved(
        self, names: Sequence[str], *, oci: bool = False, refs: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """The archive of images, piece by piece (blocks), whose layers stay until the end.

        A name without a tag means all of its tags, an id no name. Docker's form, or an OCI layout
        with the reference names of `refs`. Raises NotFound, BadRequest, Conflict.
        """
        chosen = self._choose(names)
        for key in refs or {}:
            if reference.parse(key) not in [n for found in chosen.values() for n in found]:
                raise BadRequest(f"refs: {key} is none of the images that are saved")
        layers = [d for image_id in chosen for d in self._files.index.images[image_id].layers]
        self._content.pin(layers)
        try:
            images = [self._saved(image_id, found) for image_id, found in chosen.items()]
            known = {str(reference.parse(key)): value for key, value in (refs or {}).items()}
            yield oci_archive(images, known) if oci else docker_archive(images)
        finally:
            self._content.unpin(layers)
            self._content.drop_unused(layers)

    def _choose(self, names: Sequence[str]) -> "dict[str, dict[Reference, None]]":
        """The ids that names mean, each with the names by which it was chosen."""
        chosen: dict[str, dict[Reference, None]] = {}
        for text in names:
            try:
                image_id, by = self._resolve(text)
            except NotFound:
                image_id, by = "", None
                if has_tag(text) or not self.tags_of(text):
                    raise
            if image_id and by is None:
                chosen.setdefault(image_id, {})
            elif by is not None and has_tag(text):
                chosen.setdefault(image_id, {}).update({by: None} if by.tag else {})
            else:
                for tag in self.tags_of(text):
                    chosen.setdefault(self._resolve(tag)[0], {})[reference.parse(tag)] = None
        return chosen

    def _saved(self, image_id: str, names: dict[Reference, None]) -> Saved:
        diff_ids = self._files.index.images[image_id].layers
        shown = str(next(iter(names), _short(image_id)))
        return Saved(
            self._files.read_config(image_id),
            diff_ids,
            tuple(self._files.layers[diff_id].tar_size for diff_id in diff_ids),
            tuple(blobs_of(self._content, image_id, shown)),
            tuple(names),
        )

    def list(self) -> list[Image]:
        """All images, newest first; may be called from any thread."""
        images = []
        for image_id in self._files.index.images:
            try:
                images.append(self._image(image_id))
            except (KeyError, FileNotFoundError):
                continue  # removed meanwhile
        return sorted(images, key=lambda image: (image.created, image.id), reverse=True)

    def get(self, ref_or_id: str) -> Image:
        """An image by name, id, or the begin of an id; NotFound says how to get it."""
        return self._image(self._resolve(ref_or_id)[0])

    async def tag(self, ref_or_id: str, new: str) -> None:
        """Give an image one more name; the tag is taken from what had it."""
        image_id, _ = self._resolve(ref_or_id)
        name = reference.parse(new)
        if name.tag is None or name.digest:
            raise BadRequest(f"can't tag with {new!r}: a digest is no tag")
        record = self._files.index.images[image_id]
        config = await asyncio.to_thread(self._files.read_config, image_id)
        await asyncio.to_thread(self._content.commit, config, record.layers, [name])

    async def remove(
        self,
        ref_or_id: str,
        *,
        force: bool = False,
        in_use: Callable[[str], str] = lambda _: "",
    ) -> _Removed:
        """Take a name away; with the last one the image goes, and the layers only it used.

        An image for which `in_use` (called with its id) names a user stays, at most without names
        (`force`).
        Raises NotFound, Conflict.
        """
        image_id, by = self._resolve(ref_or_id)
        index = self._files.index
        tags = [tag for tag, value in index.tags.items() if value == image_id]
        digests = list(index.images[image_id].digests)
        if by is not None and (len(tags) > 1 or (by.canonical not in tags and tags)):
            gone = [t for t in tags if t == by.canonical]
            gone_digests = [d for d in digests if d == by.canonical]
            await asyncio.to_thread(self._content.untag, gone, gone_digests, image_id)
            return [{"untagged": _familiar(name)} for name in (*gone, *gone_digests)]
        if by is None and len(tags) > 1 and not force:
            raise Conflict(
                f"image {_short(image_id)} has several names ({', '.join(map(_familiar, tags))}):"
                " remove them one by one, or use --force"
            )
        used = in_use(image_id)
        if used and not force:
            raise Conflict(f"image {ref_or_id} is used by {used}: remove that first")
        result = [{"untagged": _familiar(name)} for name in (*tags, *digests)]
        if used:
            await asyncio.to_thread(self._content.untag, tags, digests, image_id)
            return result
        layers = await asyncio.to_thread(self._content.drop, image_id)
        self._configs.pop(image_id, None)
        return [*result, *({"deleted": digest} for digest in (image_id, *layers))]

    async def make(
        self,
        config: dict[str, Any],
        *,
        base: str = "",
        layer: LayerTar | Packed | None = None,
        names: Sequence[str] = (),
        step: str = "",
    ) -> Image:
        """Make an image of another one's layers and one more; `config` is its whole configuration.

        The last entry of its history is the layer's. `step` is a key for `find_step`.
        Raises NotFound (the base), BadRequest (a name), BadImage, NoSpace.
        """
        wanted = [reference.parse(name) for name in names]
        for name in wanted:
            if name.tag is None or name.digest:
                raise BadRequest(f"can't name an image {name}: a digest is no tag")
        below = self._files.index.images[self._resolve(base)[0]].layers if base else ()
        return self._image(await making.make(self._content, config, below, layer, wanted, step))

    def find_step(self, step: str) -> Image | None:
        """The image that a build's step made last, None if there is none."""
        for image_id, record in reversed(self._files.index.images.items()):
            if step and record.step == step:
                return self._image(image_id)
        return None

    def reclaimable(self, used: Container[str]) -> int:
        """Bytes on disk of the layers that only images have whose ids are not in `used`."""
        images = list(self._files.index.images.items())
        needed = {d for image_id, record in images if image_id in used for d in record.layers}
        return pruning.on_disk(
            self._files, [d for d in tuple(self._files.layers) if d not in needed]
        )

    def layer_archives(self, ref_or_id: str) -> Sequence[Path]:
        """The archives of an image's layers, bottom first. Raises NotFound, Conflict."""
        image = self.get(ref_or_id)
        return [blob.path for blob in blobs_of(self._content, image.id, ref_or_id)]

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory for a while, on the disk of the store."""
        path = self._files.root / "tmp" / f"{uuid.uuid4().hex}.d"
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def history(self, ref_or_id: str) -> Sequence[dict[str, Any]]:
        """How an image came about, in Docker's form, newest first. Raises NotFound."""
        return pruning.history_of(self._files, self.get(ref_or_id))

    async def prune(
        self, filters: Mapping[str, Sequence[str]], in_use: Callable[[str], str], until: float
    ) -> tuple[_Removed, int]:
        """Remove images that nobody needs, by Docker's filters; what went, and bytes set free.

        `until` is in seconds since 1970. Raises BadRequest (filters).
        """
        gone: _Removed = []
        before = self.size
        for image in pruning.unneeded(self.list(), filters, in_use, until):
            with suppress(NotFound, Conflict):
                gone += await self.remove(image.id, force=True, in_use=in_use)
        return gone, max(before - self.size, 0)

    @property
    def size(self) -> int:
        """Bytes that all layers take on disk, with their archives."""
        return pruning.on_disk(self._files, list(self._files.layers))

    def size_of(self, image: Image) -> int:
        """Bytes that the layers of an image take on disk, shared ones too."""
        return pruning.on_disk(self._files, self._files.index.images[image.id].layers)

    def make_upper(self, path: Path, size: int) -> None:
        """Make the writable disk of a container: sparse ext4 of `size` bytes. Blocks for ~10 ms."""
        make_upper(path, size, self._files.root / "cache")

    def _resolve(self, text: str) -> tuple[str, Reference | None]:
        """The id that a name, an id or its begin means, and the name if it was one."""
        index = self._files.index
        if text.startswith("sha256:") and text in index.images:
            return text, None
        try:
            name = reference.parse(text)
        except BadRequest:
            name = None
        if name is not None:
            found = self._by_name(name)
            if found:
                return found, name
        digits = text.removeprefix("sha256:")
        if digits and all(c in "0123456789abcdef" for c in digits):
            matches = [i for i in index.images if i.startswith(f"sha256:{digits}")]
            if len(matches) == 1:
                return matches[0], None
            if matches:
                raise BadRequest(f"image id {text} is ambiguous: give more digits")
        if name is None and len(digits) < 64:
            reference.parse(text)  # says what is wrong with the name
        raise NotFound(f"no such image: {text}: pull it with `hyper pull {text}`")

    def _by_name(self, name: Reference) -> str | None:
        index = self._files.index
        if name.digest is None:
            return index.tags.get(name.canonical)
        wanted = name.with_digest(name.digest).canonical
        for image_id, record in index.images.items():
            if wanted in record.digests:
                return image_id
        return None

    def _image(self, image_id: str) -> Image:
        index = self._files.index
        record = index.images[image_id]
        config = self._configs.get(image_id)
        if config is None:
            config = self._configs[image_id] = json.loads(self._files.read_config(image_id))
        layers = [self._layer(diff_id) for diff_id in dict.fromkeys(record.layers)]
        created = config.get("created")
        return Image(
            id=image_id,
            repo_tags=[_familiar(tag) for tag, value in index.tags.items() if value == image_id],
            repo_digests=[_familiar(digest) for digest in record.digests],
            config=config,
            created=created if isinstance(created, str) else "",
            size=sum(layer.size for layer in layers),
            layers=self._stack(record.layers),
            step=record.step,
        )

    def _layer(self, diff_id: str) -> Layer:
        size = self._files.layers[diff_id].size
        return Layer(diff_id, self._files.layer_path(diff_id), FSTYPE, size)

    def _stack(self, diff_ids: Sequence[str]) -> _Layers:
        """The layers to mount, bottom first, without those that change nothing."""
        stack: _Layers = []
        known = self._files.layers
        for diff_id in reversed(dict.fromkeys(reversed(diff_ids))):
            if known[diff_id].entries:
                stack.append(self._layer(diff_id))
            if known[diff_id].opaque_root:
                stack = stack[-1:]
        if not stack and diff_ids:
            stack.append(self._layer(diff_ids[-1]))
        return stack


def _familiar(canonical: str) -> str:
    return str(reference.parse(canonical))


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
