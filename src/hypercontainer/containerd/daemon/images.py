"""The service of images: names for manifests in the content store."""

import sqlite3

from google.protobuf.empty_pb2 import Empty

from ...errors import BadRequest, Conflict, NotFound
from ..api import images_pb2 as api
from .core import Core
from .fields import fields_of, masked_labels
from .filters import matches, parse
from .names import check_digest, check_key, check_labels
from .schema import dump, now, stamp, touch_namespace
from .server import NO_BOUNDS, Call


class Images:
    """Names of images."""

    descriptor = api.DESCRIPTOR.services_by_name["Images"]
    bounds = NO_BOUNDS

    def __init__(self, core: Core) -> None:
        self._core = core
        self._db = core.database

    def _find(self, namespace: str, name: str) -> api.Image:
        query = "SELECT data FROM images WHERE namespace = ? AND name = ?"
        row = self._db.row(query, namespace, name)
        if row is None:
            raise NotFound(f"image {name!r}: not found")
        return api.Image.FromString(row[0])

    async def get(self, request: api.GetImageRequest, call: Call) -> api.GetImageResponse:
        """Raises NotFound."""
        return api.GetImageResponse(image=self._find(call.namespace, request.name))

    async def list(self, request: api.ListImagesRequest, call: Call) -> api.ListImagesResponse:
        """Those that filters let through."""
        wanted = parse(request.filters)
        query = "SELECT data FROM images WHERE namespace = ? ORDER BY name"
        found = [api.Image.FromString(row[0]) for row in self._db.rows(query, call.namespace)]
        return api.ListImagesResponse(images=[i for i in found if matches(wanted, fields_of(i))])

    async def create(self, request: api.CreateImageRequest, call: Call) -> api.CreateImageResponse:
        """Raises Conflict, BadRequest."""
        image = _checked(request.image)
        image.created_at.CopyFrom(stamp(now()))
        self._save(call.namespace, image, "INSERT INTO")
        event = api.ImageCreate(name=image.name, labels=image.labels)
        self._core.events.publish(call.namespace, "/images/create", event)
        return api.CreateImageResponse(image=image)

    def _save(self, namespace: str, image: api.Image, verb: str) -> None:
        image.updated_at.CopyFrom(stamp(now()))
        row = (
            *(namespace, image.name, image.SerializeToString()),
            *(image.target.digest, dump(image.labels)),
        )
        with self._db.transaction() as db:
            touch_namespace(db, namespace)
            try:
                db.execute(f"{verb} images VALUES (?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise Conflict(f"image {image.name!r}: already exists") from None

    async def update(self, request: api.UpdateImageRequest, call: Call) -> api.UpdateImageResponse:
        """Change labels and target. Raises NotFound, BadRequest."""
        new, paths = request.image, request.update_mask.paths
        old = self._find(call.namespace, new.name)
        labels = check_labels(
            masked_labels(old.labels, new.labels, paths, "target", "annotations", "name")
        )
        old.labels.clear()
        old.labels.update(labels)
        if not paths or any(path.partition(".")[0] == "target" for path in paths):
            old.target.CopyFrom(new.target)
        self._save(call.namespace, _checked(old), "INSERT OR REPLACE INTO")
        event = api.ImageUpdate(name=old.name, labels=old.labels)
        self._core.events.publish(call.namespace, "/images/update", event)
        return api.UpdateImageResponse(image=old)

    async def delete(self, request: api.DeleteImageRequest, call: Call) -> Empty:
        """Take a name away; with `sync` what only it needed is gone then. Raises NotFound."""
        image = self._find(call.namespace, request.name)
        if request.HasField("target") and request.target.digest != image.target.digest:
            raise NotFound(f"image {image.name!r} has another target: {image.target.digest}")
        with self._db.transaction() as db:
            query = "DELETE FROM images WHERE namespace = ? AND name = ?"
            db.execute(query, (call.namespace, image.name))
        event = api.ImageDelete(name=image.name)
        self._core.events.publish(call.namespace, "/images/delete", event)
        if request.sync:
            await self._core.collector.run()
        else:
            self._core.collector.soon()
        return Empty()


def _checked(image: api.Image) -> api.Image:
    check_key(image.name, "image's name")
    check_digest(image.target.digest)
    check_labels(image.labels)
    if not image.target.media_type or image.target.size <= 0:
        raise BadRequest(f"image {image.name}: its target needs a media type and a size")
    return image
